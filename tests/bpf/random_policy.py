"""Random policies, and random requests for them. The same seed gives the same text.

A policy is plain data (see Policy); text() writes it down, oracle.py says what it means. Neither reads
a line of the compiler.

    random_policy.py SEED [l4|l7]      prints one
"""
import ipaddress
import random
import sys
from dataclasses import dataclass, field

RESERVED = {"from", "to", "when", "and", "or", "not", "in", "has", "like", "matches", "any", "world", "node",
            "namespace", "except"}
TRUST = "t.example"


@dataclass
class Service:
    ns: str
    name: str
    ports: list  # (protocol, lo, hi, target or None)
    ingress: str = None
    subsets: list = field(default_factory=list)
    addresses: list = field(default_factory=list)
    account: str = None
    spiffe: str = None

    @property
    def full(self):
        return f"{self.ns}/{self.name}"

    def id(self):
        return self.spiffe or f"spiffe://{TRUST}/ns/{self.ns}/sa/{self.account or self.name}"

    def workload_ports(self):
        """(protocol, lo, hi) as conditions see them."""
        return [(p, t, t) if t else (p, lo, hi) for p, lo, hi, t in self.ports]


@dataclass
class External:
    ns: str
    name: str
    cidrs: list  # (in [..], except [..])
    ports: list
    egress: str = None

    @property
    def full(self):
        return f"{self.ns}/{self.name}"


@dataclass
class Rule:
    effect: str
    name: str
    ns: str
    src: tuple  # ([ref], [ref]); a ref is ("name", "ns/x"), ("namespace", "x"), ("any",), ("world",), ("node",)
    dst: tuple
    ports: list  # [(lo, hi)] or None
    when: tuple  # ("atom", field, key, op, values), ("and", a, b), ("or", a, b), ("not", a) or None
    line: int = 0


@dataclass
class Arm:
    src: tuple
    when: tuple
    per_connection: bool
    splits: list  # (subset or None, weight)


@dataclass
class Policy:
    ingress: str
    egress: str
    spaces: dict = field(default_factory=dict)      # name -> (ingress or None, egress or None)
    services: dict = field(default_factory=dict)    # full name -> Service
    externals: dict = field(default_factory=dict)
    identities: dict = field(default_factory=dict)  # full name -> SPIFFE ID
    cidrs: dict = field(default_factory=dict)       # full name -> (in [..], except [..])
    groups: dict = field(default_factory=dict)      # full name -> [full names]
    rules: list = field(default_factory=list)
    routes: dict = field(default_factory=dict)      # service -> ([Arm], sticky)
    tests: list = field(default_factory=list)       # lines
    nevers: list = field(default_factory=list)      # (src refs, dst refs, ports, through any)
    mtls: list = field(default_factory=list)        # (mode, None | ("namespace", ns) | ("name", full), port or None)


# ---- Text ------------------------------------------------------------------------------------------

def quote(text):
    return '"' + text.replace('"', '\\"') + '"'


def word(name):
    plain = name and (name[0].isalpha() or name[0] == "_") and all(c.isalnum() or c in "_-" for c in name)
    return name if plain and name.isascii() and name not in RESERVED else quote(name)


def split_name(subset):
    return quote(subset) if subset == "per" else word(subset)  # `split per` begins `per connection`


def name_text(full, ns):
    of, name = full.split("/")
    return word(name) if of == ns else f"{word(of)}/{word(name)}"


def ref_text(ref, ns):
    if ref[0] == "name":
        return name_text(ref[1], ns)
    return f"namespace {word(ref[1])}" if ref[0] == "namespace" else ref[0]


def party_text(party, ns):
    text = ", ".join(ref_text(r, ns) for r in party[0])
    return text + (" except " + ", ".join(ref_text(r, ns) for r in party[1]) if party[1] else "")


def range_text(lo, hi):
    return str(lo) if lo == hi else f"{lo}..{hi}"


def ports_text(ports):
    if not ports:
        return ""
    if len(ports) == 1:
        return " port " + range_text(*ports[0])
    return " port {" + ", ".join(range_text(*p) for p in ports) + "}"


def cond_text(cond):
    if cond[0] == "not":
        return f"not ({cond_text(cond[1])})"
    if cond[0] in ("and", "or"):
        return f"({cond_text(cond[1])}) {cond[0]} ({cond_text(cond[2])})"
    _, name, key, op, values = cond
    name += f"[{quote(key)}]" if key is not None else ""
    if op == "has":
        return f"has {name}"
    if op == "is":
        return name
    if name in ("tcp.port", "udp.port"):
        if op == "in":
            return f"{name} in {{{', '.join(range_text(*v) for v in values)}}}"
        return f"{name} in {range_text(*values[0])}" if op == "range" else f"{name} {op} {values[0][0]}"
    if op == "in":
        return f"{name} in {{{', '.join(quote(v) for v in values)}}}"
    return f"{name} {op} {quote(values[0])}"


def rule_text(rule):
    when = f" when {cond_text(rule.when)}" if rule.when else ""
    return (f"{rule.effect} {word(rule.name)}: from {party_text(rule.src, rule.ns)} to "
            f"{party_text(rule.dst, rule.ns)}{ports_text(rule.ports)}{when};")


def cidr_text(cidr):
    return ", ".join(cidr[0]) + (" except " + ", ".join(cidr[1]) if cidr[1] else "")


def service_text(service):
    items = [f"workload app == {quote(service.name)};"] if service.subsets else []
    for protocol, lo, hi, target in service.ports:
        items.append(f"{protocol} {range_text(lo, hi)}{f' to {target}' if target else ''};")
    items += [f"subset {word(s)} = version == {quote(s)};" for s in service.subsets]
    items += [f"address {', '.join(service.addresses)};"] if service.addresses else []
    items += [f"account {word(service.account)};"] if service.account else []
    items += [f"identity {quote(service.spiffe)};"] if service.spiffe else []
    items += [f"ingress {service.ingress};"] if service.ingress else []
    return f"service {word(service.name)} {{ {' '.join(items)} }}"


def external_text(external):
    items = [f"cidr {cidr_text(c)};" for c in external.cidrs]
    items += [f"{protocol} {range_text(lo, hi)};" for protocol, lo, hi, _ in external.ports]
    items += [f"egress {external.egress};"] if external.egress else []
    return f"external {word(external.name)} {{ {' '.join(items)} }}"


def arm_text(arm, ns):
    text = f"from {party_text(arm.src, ns)} " if arm.src else ""
    text += f"when {cond_text(arm.when)} " if arm.when else ""
    splits = ", ".join(f"{split_name(s)} {w}" if s else str(w) for s, w in arm.splits)
    return f"{text}split {'per connection ' if arm.per_connection else ''}{splits};"


def route_text(name, route, ns):
    arms = " ".join(arm_text(a, ns) for a in route[0])
    return f"route {name_text(name, ns)} {{ {arms}{' sticky by source;' if route[1] else ''} }}"


def mtls_text(statement, ns):
    mode, scope, port = statement
    text = f"mtls {mode}" + (f" for {ref_text(scope, ns)}" if scope else "") + (f" port {port}" if port else "")
    return text + {"strict": ";", "permissive": ' until "2999-12-31";', "off": ' because "a test";'}[mode]


def never_text(number, never, ns):
    src, dst, ports, through = never
    return (f'never "n{number}": from {party_text((src, []), ns)} to {party_text((dst, []), ns)}'
            f'{ports_text(ports)}{" through any" if through else ""};')


def declarations(policy):
    """One text a line, each with the namespace that it stands in (None: free of one)."""
    lines = [(None, f'mesh m: trust "{TRUST}", ingress {policy.ingress}, egress {policy.egress};')]
    for ns, (ingress, egress) in policy.spaces.items():
        said = [f"ingress {ingress}"] if ingress else []
        said += [f"egress {egress}"] if egress else []
        lines.append((None, f"namespace {word(ns)}: {', '.join(said)};") if said else (ns, ""))
    for service in policy.services.values():
        lines.append((service.ns, service_text(service)))
    for external in policy.externals.values():
        lines.append((external.ns, external_text(external)))
    for kind, table in (("identity", policy.identities), ("cidr", policy.cidrs), ("group", policy.groups)):
        for full, value in table.items():
            ns, name = full.split("/")
            what = (quote(value) if kind == "identity" else cidr_text(value) if kind == "cidr"
                    else ", ".join(name_text(m, ns) for m in value))
            lines.append((ns, f"{kind} {word(name)} = {what};"))
    lines += [(rule.ns, rule) for rule in policy.rules]
    for full, route in policy.routes.items():
        lines.append((full.split("/")[0], route_text(full, route, full.split("/")[0])))
    some = next(iter(policy.spaces))
    lines += [(some, mtls_text(m, some)) for m in policy.mtls]
    lines += [(some, never_text(i, n, some)) for i, n in enumerate(policy.nevers)]
    return lines + [(some, test) for test in policy.tests]


def text(policy, shuffle=None):
    """The policy's text. Notes in each rule the line that it stands on."""
    lines, ns, out = declarations(policy), None, []
    if shuffle:
        shuffle.shuffle(lines)
    for of, line in lines:
        if of and of != ns:
            out.append(f"namespace {word(of)};")
            ns = of
        if isinstance(line, Rule):
            line.line = len(out) + 1
            line = rule_text(line)
        out.append(line)
    return "\n".join(out) + "\n"


# ---- Policies --------------------------------------------------------------------------------------

NAMES = ["web", "api", "cart", "ledger", "mail", "node", "any", "a-b", "1st", "deny", "port", "x.y", "Web", "auth",
         "q", "tool", "db", "cache"]
EFFECTS = ["deny", "allow", "audit"]
PORTS = [53, 80, 443, 5432, 8080, 8081, 9090, 6000]
BLOCKS4 = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.128/25", "198.51.100.0/24", "198.51.100.66/32", "0.0.0.0/0",
           "203.0.113.0/24", "203.0.113.64/26", "192.0.2.0/25", "255.255.255.254/31"]
BLOCKS6 = ["2001:db8::/32", "2001:db8:7::/48", "2001:db8:7::5/128", "fd00::/8", "::/0", "fd00:96::/64"]
METHODS = ["GET", "POST", "HEAD", "DELETE", "PATCH", "X-1"]
HEADERS = ["x-a", "x-b", "X-Canary"]
VALUES = ["", "1", "true", "a,b", "a", "A", "a b", "canary-7", "a/b"]
HOSTS = ["shop", "shop.example", "api.shop.example", "[::1]", "10.0.0.1"]
PATHS = ["/", "/a", "/a/", "/a/b", "/api", "/api/v1/x", "/api/v1/", "/%41", "/~u", "/a%20b", "/A", "/pkg.S/M"]
LIKES = ["/**", "/*", "/a/**", "/a*", "**/b", "/api/*/x", "/api/**/x", "/\\*", "*", "**a**", "/a/*", "a*", "*.example", "**.EXAMPLE",
         "a?b", "canary-*"]
REGEXES = ["/a(/b)?", "/[a-z]+", ".*", "/api/v[0-9]+/.*", "[Aa]", "(GET|HEAD)", "canary-[0-9]{1,2}", "shop(\\.example)?", "Shop",
           "/.*b", "a?", "[^/]*"]


def chance(rng, percent):
    return rng.randrange(100) < percent


def random_cidr(rng):
    family = BLOCKS4 if chance(rng, 70) else BLOCKS6
    inside = rng.sample(family, rng.randint(1, 2))
    networks = [ipaddress.ip_network(c) for c in inside]
    outside = [b for b in family if any(ipaddress.ip_network(b).subnet_of(n) for n in networks) and b not in inside]
    if chance(rng, 20):
        inside.append(rng.choice(BLOCKS6))
    return inside, rng.sample(outside, min(len(outside), rng.randint(0, 2)))


def random_ports(rng, kinds):
    """Disjoint, for services: (protocol, lo, hi, target)."""
    ports, used = [], set()
    for port in rng.sample(PORTS, rng.randint(1, 3)):
        protocol = rng.choice(kinds)
        udp = protocol == "udp"
        lo, hi, target = port, port, None
        if chance(rng, 20):
            hi = lo + rng.choice([1, 9, 100])
        elif chance(rng, 20):
            target = lo + 10000
        if any((udp, p) in used for p in range(lo, hi + 1)) or (udp, target) in used:
            continue
        used |= {(udp, p) for p in range(lo, hi + 1)} | {(udp, target)}
        ports.append((protocol, lo, hi, target))
    if "tcp" in kinds and chance(rng, 15):
        ports = [p for p in ports if p[1] != 53 and p[0] != "udp"] + [("udp", 53, 53, None)]
    return ports


def random_service(rng, ns, name, l7):
    kinds = rng.choice([["tcp"], ["tcp", "udp"], ["http"], ["grpc"], ["http", "tcp"]])
    if l7:
        kinds = rng.choice([["http"], ["http"], ["grpc"], ["http", "grpc"], ["http", "tcp", "udp"]])
    service = Service(ns, name, random_ports(rng, kinds))
    service.ingress = rng.choice(EFFECTS) if chance(rng, 30) else None
    service.subsets = rng.sample(["v1", "v2", "per", "off", "canary"], rng.randint(1, 3)) if chance(rng, 50) else []
    return service


def random_leaf(rng, policy, kinds):
    tables = {"service": policy.services, "external": policy.externals, "identity": policy.identities,
              "cidr": policy.cidrs}
    return rng.choice([full for kind in kinds for full in tables[kind]] or list(policy.services))


def holds(policy, full, kind):
    if full in policy.groups:
        return any(holds(policy, m, kind) for m in policy.groups[full])
    return full in {"external": policy.externals, "identity": policy.identities, "cidr": policy.cidrs}[kind]


def source_ref(rng, policy):
    kind = rng.choice(["service"] * 4 + ["group"] * 2 + ["namespace", "any", "world", "node", "cidr", "cidr", "identity"])
    if kind == "namespace":
        return ("namespace", rng.choice(list(policy.spaces) + ["nowhere"]))
    if kind in ("any", "world", "node"):
        return (kind,)
    groups = [g for g in policy.groups if not holds(policy, g, "external")]
    if kind == "group" and groups:
        return ("name", rng.choice(groups))
    return ("name", random_leaf(rng, policy, [kind] if kind != "group" else ["service"]))


def target_ref(rng, policy):
    kind = rng.choice(["service"] * 6 + ["group", "namespace", "any", "world", "external", "external"])
    if kind == "namespace":
        return ("namespace", rng.choice(list(policy.spaces)))
    if kind in ("any", "world"):
        return (kind,)
    groups = [g for g in policy.groups if not holds(policy, g, "identity") and not holds(policy, g, "cidr")]
    if kind == "group" and groups:
        return ("name", rng.choice(groups))
    return ("name", random_leaf(rng, policy, ["external" if kind == "external" else "service"]))


def random_party(rng, policy, ref, most=3):
    refs = list(dict.fromkeys(ref(rng, policy) for _ in range(rng.choice([1, 1, 1, 2, most]))))
    out = list(dict.fromkeys(ref(rng, policy) for _ in range(rng.randint(1, 2)))) if chance(rng, 25) else []
    return refs, [r for r in out if r not in refs and (r != ("any",) or chance(rng, 5))]


def random_range(rng):
    lo = rng.choice(PORTS) + rng.choice([0, 0, 0, 1, 5])
    return (lo, lo) if chance(rng, 60) else (lo, lo + rng.choice([1, 10, 1000]))


def random_l4_atom(rng):
    name, op = rng.choice(["tcp.port", "tcp.port", "udp.port"]), rng.choice(["==", "!=", "in", "range"])
    if op == "in":
        many = [random_range(rng) for _ in range(rng.randint(1, 3))]
        return ("atom", name, None, op, many)
    port = rng.choice(PORTS)
    return ("atom", name, None, op, [random_range(rng) if op == "range" else (port, port)])


def random_l7_atom(rng, grpc):
    name = rng.choice(["http.path"] * 3 + ["http.method"] * 2 + ["http.host", "http.header", "http.header"])
    if grpc and chance(rng, 30):
        return ("atom", "grpc.method", None, "==", ["pkg.S/M"])
    key = rng.choice(HEADERS) if name == "http.header" else None
    pool = {"http.path": PATHS, "http.method": METHODS, "http.host": HOSTS, "http.header": VALUES}[name]
    op = rng.choice(["==", "!=", "in", "like", "matches"] + ["has"] * (2 if key else 0))
    if op == "has":
        return ("atom", name, key, op, [])
    if op in ("like", "matches"):
        return ("atom", name, key, op, [rng.choice(LIKES if op == "like" else REGEXES)])
    return ("atom", name, key, op, rng.sample(pool, rng.randint(1, 3)) if op == "in" else [rng.choice(pool)])


def random_cond(rng, atom, depth=2):
    if depth == 0 or chance(rng, 50):
        return atom(rng)
    op = rng.choice(["and", "or", "not"])
    if op == "not":
        return ("not", random_cond(rng, atom, depth - 1))
    return (op, random_cond(rng, atom, depth - 1), random_cond(rng, atom, depth - 1))


def leaves(policy, refs):
    out = []
    for ref in refs:
        full = ref[1] if ref[0] == "name" else None
        if full in policy.groups:
            out += leaves(policy, [("name", m) for m in policy.groups[full]])
        else:
            out.append(ref)
    return out


def speaks(policy, rule):
    """The protocols behind a rule's target; None where it is not of services alone."""
    kinds = set()
    for ref in leaves(policy, rule.dst[0]):
        if ref[0] == "namespace":
            services = [s for s in policy.services.values() if s.ns == ref[1]]
        elif ref[0] == "name" and ref[1] in policy.services:
            services = [policy.services[ref[1]]]
        else:
            return None
        for service in services:
            mine = {p for p, lo, hi in service.workload_ports()
                    if not rule.ports or any(lo <= b and hi >= a for a, b in rule.ports)}
            kinds |= mine or {"tcp"}
    return kinds


def random_rule(rng, policy, number, l7):
    name = rng.choice(["r", "R", "a", "z-", "allow", "_"]) + str(number)
    effect = rng.choice(["allow"] * 4 + ["deny"] * 3 + ["audit"] * 2)
    rule = Rule(effect, name, rng.choice(list(policy.spaces)), random_party(rng, policy, source_ref),
                random_party(rng, policy, target_ref), None, None)
    services = [r for r in leaves(policy, rule.dst[0]) if r[0] == "name" and r[1] in policy.services]
    if services and chance(rng, 45):
        ports = policy.services[rng.choice(services)[1]].workload_ports()
        rule.ports = [(lo, rng.choice([lo, hi])) for _, lo, hi in rng.sample(ports, rng.randint(1, len(ports)))]
    if chance(rng, 20) and effect != "allow":
        rule.ports = [random_range(rng) for _ in range(rng.randint(1, 3))]
    kinds = speaks(policy, rule) if l7 else None
    if kinds and kinds <= {"http", "grpc"} and chance(rng, 80):
        rule.when = random_cond(rng, lambda r: random_l7_atom(r, kinds == {"grpc"}) if chance(r, 85) else random_l4_atom(r))
    elif chance(rng, 30):
        rule.when = random_cond(rng, random_l4_atom)
    return rule


def asks_verified(cond):
    return cond is not None and (cond[1] == "peer.verified" if cond[0] == "atom" else any(asks_verified(c) for c in cond[1:]))


def add_peer(rng, policy, rule):
    """A condition on peer.verified, where the rule's destinations are workloads."""
    kinds = {r[0] if r[0] != "name" or r[1] in policy.services else "foreign" for r in leaves(policy, rule.dst[0])}
    if kinds & {"foreign", "world"}:
        return
    atom = ("atom", "peer.verified", None, "is", [])
    atom = atom if chance(rng, 60) else ("not", atom)
    rule.when = atom if not rule.when or chance(rng, 30) else (rng.choice(["and", "or"]), *rng.sample([atom, rule.when], 2))


def mode_of(policy, service, ns, port):
    """Language 20: the narrowest statement."""
    for scope in ((("name", service), port), (("name", service), None), (("namespace", ns), None), (None, None)):
        for mode, *where in policy.mtls:
            if tuple(where) == scope:
                return mode
    return "off"


def random_mtls(rng, policy):
    scopes = [(None, None)] * chance(rng, 40)
    scopes += [(("namespace", ns), None) for ns in policy.spaces if chance(rng, 30)]
    for service in policy.services.values():
        scopes += [(("name", service.full), None)] * chance(rng, 15)
        scopes += [(("name", service.full), lo) for p, lo, hi in service.workload_ports() if chance(rng, 15) and p != "udp"]
    policy.mtls = [(rng.choice(["strict", "strict", "permissive", "off"]), *scope) for scope in scopes]
    # No datagram goes through the tunnel: a strict port of udp is refused.
    for service in policy.services.values():
        for protocol, lo, _ in service.workload_ports():
            if protocol == "udp" and mode_of(policy, service.full, service.ns, lo) == "strict":
                policy.mtls.append(("off", ("name", service.full), lo))


def random_route(rng, policy, service, l7):
    arms, kinds = [], {p for p, _, _, _ in service.ports}
    per_connection = not l7 and bool(kinds & {"http", "grpc"})
    for i in range(rng.randint(1, 4)):
        splits = [(s, rng.choice([0, 1, 10, 50, 90])) for s in service.subsets + [None] if chance(rng, 60)]
        if not sum(w for _, w in splits):
            splits = [(rng.choice(service.subsets + [None]), rng.choice([1, 100]))]
        arm = Arm(None, None, per_connection or chance(rng, 20), splits)
        if chance(rng, 50):
            arm.src = random_party(rng, policy, source_ref)
        if chance(rng, 60) or not arm.src:
            web = l7 and kinds <= {"http", "grpc"}
            arm.when = random_cond(rng, (lambda r: random_l7_atom(r, kinds == {"grpc"})) if web else random_l4_atom)
        arms.append(arm)
    arms[-1].src = arms[-1].when = None
    return arms, chance(rng, 30)


def make(seed, l7=False, big=False):
    rng = random.Random(f"{seed} {l7} {big}")
    policy = Policy(rng.choice(EFFECTS[:1] * 2 + EFFECTS), rng.choice(EFFECTS))
    for ns in rng.sample(["shop", "dev", "ci", "in", "Z"], rng.randint(1, 4)):
        policy.spaces[ns] = (rng.choice(EFFECTS + [None] * 4), rng.choice(EFFECTS + [None] * 4))
    spaces = list(policy.spaces)
    used = set()

    def fresh(pool=NAMES):
        while True:
            ns, name = rng.choice(spaces), rng.choice(pool)
            if big or chance(rng, 20):
                name += str(rng.randrange(2000))
            if (ns, name) not in used:
                used.add((ns, name))
                return ns, name

    for _ in range(rng.randint(300, 600) if big else rng.randint(3, 12)):
        service = random_service(rng, *fresh(), l7)
        policy.services[service.full] = service
    for i, service in enumerate(policy.services.values()):
        if i < 20 and chance(rng, 30):
            service.addresses = [f"10.96.0.{i + 1}"] + ([f"fd00:96::{i + 1:x}"] if chance(rng, 50) else [])
        if chance(rng, 10):
            service.account = f"acc{i}"
        elif chance(rng, 10):
            service.spiffe = f"spiffe://{TRUST}/special/{i}"
    for _ in range(rng.randint(0, 4)):
        ns, name = fresh(["stripe", "bank", "dns", "wide"])
        external = External(ns, name, [random_cidr(rng) for _ in range(rng.randint(1, 2))], random_ports(rng, ["tcp", "tcp", "udp"]))
        external.ports = [(p, lo, hi, None) for p, lo, hi, _ in external.ports]
        external.egress = rng.choice(EFFECTS) if chance(rng, 40) else None
        policy.externals[external.full] = external
    for i in range(rng.randint(0, 3)):
        ns, name = fresh(["robot", "ops"])
        policy.identities[f"{ns}/{name}"] = rng.choice([
            f"spiffe://{TRUST}/ns/{rng.choice(spaces)}/sa/robot{i}", f"spiffe://{TRUST}/ns/far/sa/robot{i}",
            f"spiffe://other.example/x/{i}", rng.choice(list(policy.services.values())).id()])
    for _ in range(rng.randint(0, 4)):
        policy.cidrs["/".join(fresh(["office", "vpn", "lan"]))] = random_cidr(rng)
    for _ in range(rng.randint(0, 6 if not big else 20)):
        kinds = rng.choice([["service"], ["service", "identity", "cidr"], ["service", "external"]])
        members = [random_leaf(rng, policy, kinds) for _ in range(rng.randint(1, 4 if not big else 40))]
        if policy.groups and chance(rng, 50):
            members.append(rng.choice(list(policy.groups)))
        policy.groups["/".join(fresh(["grp", "team"]))] = list(dict.fromkeys(members))
    for number in range(rng.randint(200, 300) if big else rng.randint(1, 40)):
        policy.rules.append(random_rule(rng, policy, number, l7))
    for full, service in policy.services.items():
        if chance(rng, 40):
            policy.routes[full] = random_route(rng, policy, service, l7)
    rng = random.Random(f"mtls {seed} {l7} {big}")
    if chance(rng, 60):
        random_mtls(rng, policy)
    for rule in policy.rules:
        if chance(rng, 25):
            add_peer(rng, policy, rule)
    return policy


# ---- Requests --------------------------------------------------------------------------------------

def random_address(rng):
    network = ipaddress.ip_network(rng.choice(BLOCKS4 + BLOCKS6))
    address = network[rng.choice([0, -1, rng.randrange(network.num_addresses)])]
    if chance(rng, 10) and int(address) + 1 < 1 << address.max_prefixlen:
        address += 1
    if address.version == 6 and int(address) >> 32 in (0, 0xffff):
        address = ipaddress.ip_address("2001:db8:7::5")
    return str(address)


def random_from(rng, policy):
    kind = rng.choice(["service"] * 4 + ["namespace", "world", "node", "spiffe", "address", "both"])
    service = rng.choice(list(policy.services.values()))
    ids = list(policy.identities.values()) + [service.id(), f"spiffe://{TRUST}/ns/{rng.choice(list(policy.spaces))}/sa/no-one",
                                              f"spiffe://{TRUST}/ns/unheard/sa/x", "spiffe://elsewhere.example/y"]
    return {"service": service.full, "namespace": {"namespace": rng.choice(list(policy.spaces))}, "world": "world",
            "node": "node", "spiffe": {"spiffe": rng.choice(ids)}, "address": random_address(rng),
            "both": {"namespace": service.ns, "service": service.name, "address": random_address(rng)}}[kind]


def random_to(rng, policy, l7=False):
    """`to`, `protocol` and `port` of a request; http and grpc are told from tcp where L7."""
    kind = rng.choice(["service"] * 7 + ["namespace", "world", "address", "vip"])
    service = rng.choice(list(policy.services.values()))
    protocol, lo, hi = rng.choice(service.workload_ports())
    wire = (lambda p: p) if l7 else (lambda p: "udp" if p == "udp" else "tcp")
    request = {"to": service.full, "protocol": wire(protocol), "port": rng.choice([lo, hi])}
    if kind == "vip" and service.addresses:
        protocol, lo, hi, _ = rng.choice(service.ports)
        return {"to": rng.choice(service.addresses), "protocol": wire(protocol), "port": rng.choice([lo, hi])}
    services_ports = {p for _, p, _, target in service.ports if target}
    if chance(rng, 10 if l7 else 30) or kind != "service":
        port = rng.choice(PORTS) + rng.choice([0, 0, 1, 10, 10000])
        request["port"] = port if port not in services_ports else request["port"]
        request["protocol"] = rng.choice(["tcp", "udp"])
    if kind == "namespace":
        request["to"] = rng.choice(list(policy.spaces)) + "/-"
    elif kind == "world":
        request["to"] = "world"
    elif kind == "address":
        request["to"] = random_address(rng)
    return request


def random_path(rng):
    if chance(rng, 50):
        return rng.choice(PATHS)
    parts = ["a", "b", "api", "v1", "x", ".", "..", "", "%61", "%2e", "%2E%2e", "%7e", "A", "a%20b", "%c3%a9", "a.", "...", "pkg.S", "M"]
    if chance(rng, 10):
        parts += ["%", "%2", "%zz", "%2f", "%5C", "%00", "a\\b", "a b"]
    path = "/" + "/".join(rng.choice(parts) for _ in range(rng.randint(1, 5)))
    if chance(rng, 10):
        path = rng.choice(["http://h", "HTTPS://H:80", "http://h?x", "http://h#f"]) + rng.choice([path, ""])
    return path + rng.choice([""] * 6 + ["?q=/b", "#f", "?a#b", "*"]) if not chance(rng, 2) else path[1:]


def random_http(rng):
    request = {"method": rng.choice([*METHODS, "get"])}
    if chance(rng, 92):
        request["path"] = random_path(rng)
    if chance(rng, 80):
        request["host"] = rng.choice(HOSTS + ["Shop", "SHOP.EXAMPLE.", "shop:80", "shop.example.:8080", "[::1]:443", "other"])
    headers = {}
    for name in rng.sample(HEADERS + ["x-canary", "X-A", "x-c"], rng.randint(0, 3)):
        values = [rng.choice(["", " ", "\t"]) + rng.choice(VALUES) + rng.choice(["", "", " "]) for _ in range(rng.choice([1, 1, 1, 2]))]
        headers[name] = values if len(values) > 1 or chance(rng, 10) else values[0]
    if chance(rng, 2):
        headers["Host"] = "shop"
    if headers:
        request["headers"] = headers
    return request


def can_verify(policy, request):
    """A certificate is shown by a workload, over TCP, to a workload."""
    source, to = request["from"], request["to"]
    known = source in policy.services if isinstance(source, str) else bool(source.keys() & {"service", "namespace", "spiffe"})
    workload = to in policy.services or to.endswith("/-") or any(to in s.addresses for s in policy.services.values())
    return known and workload and request["protocol"] != "udp"


def with_verified(rng, policy, request):
    if chance(rng, 40):
        return request
    source, said = request["from"], chance(rng, 60) and can_verify(policy, request)
    if isinstance(source, str):
        source = {"service" if source in policy.services or source in ("world", "node") else "address": source}
    return {**request, "from": {**source, "verified": said}}


def requests(policy, seed, count):
    rng, more = random.Random(f"requests {seed}"), random.Random(f"verified {seed}")
    asked = [{"from": random_from(rng, policy), **random_to(rng, policy)} for _ in range(count)]
    return [with_verified(more, policy, r) for r in asked]


def http_requests(policy, seed, count):
    rng, more = random.Random(f"http requests {seed}"), random.Random(f"verified {seed}")
    out = []
    for _ in range(count):
        request = {"from": random_from(rng, policy), **random_to(rng, policy, True)}
        if request["protocol"] in ("http", "grpc"):
            request.update(random_http(rng))
        out.append(with_verified(more, policy, request))
    return out


if __name__ == "__main__":
    print(text(make(sys.argv[1], len(sys.argv) > 2 and sys.argv[2] == "l7")), end="")
