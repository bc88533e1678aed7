"""What a policy of random_policy.py means: language.md read once more, naively.

No table, no diagram, no automaton: each rule is asked of each request. Where this and the compiler
differ, one of them is wrong.
"""
import ipaddress
import re
import string

from random_policy import TRUST, asks_verified, mode_of


class Malformed(Exception):
    """Language 17: the request is refused."""


class Undecided(Exception):
    """The connection alone does not decide: a rule asks for its requests."""


# ---- Who -------------------------------------------------------------------------------------------

def address_of(text):
    return ipaddress.ip_address(text)


def in_cidr(address, cidr):
    def lies_in(blocks):
        return any(address.version == n.version and address in n for n in map(ipaddress.ip_network, blocks))
    return address is not None and lies_in(cidr[0]) and not lies_in(cidr[1])


def is_of_link(address):
    """IPv6 link-local names nobody."""
    return address.version == 6 and address.is_link_local


class Source:
    """Language 8, 10, 13: what is known of who asks."""

    def __init__(self, policy, said):
        self.policy = policy
        self.service = self.ns = self.spiffe = self.address = None
        self.kind, self.unknown = "world", False
        self.verified = said.get("verified") if isinstance(said, dict) else None
        if said == "other" or (isinstance(said, dict) and said.get("service") == "other"):
            self.kind = "workload"
            return
        if isinstance(said, str):
            said = {"service": said} if said in ("world", "node") or said in policy.services else {"address": said}
        if "address" in said:
            self.address = address_of(said["address"])
            self.unknown = is_of_link(self.address) and not any(k in said for k in ("service", "namespace", "spiffe"))
        if said.get("service") in ("world", "node") and "namespace" not in said:
            self.kind = said["service"]
        elif "service" in said:
            name = said["service"]
            self.take_service(policy.services[name if "/" in name else f"{said['namespace']}/{name}"])
        elif "namespace" in said:
            self.kind, self.ns = "workload", said["namespace"]
        if "spiffe" in said:
            self.take_id(said["spiffe"])

    def take_service(self, service):
        self.kind, self.service, self.ns, self.spiffe = "workload", service.full, service.ns, service.id()

    def take_id(self, spiffe):
        """A certificate wins over all else; an ID that nobody has is of its namespace alone."""
        for service in self.policy.services.values():
            if service.id() == spiffe:
                self.take_service(service)
                return
        self.kind, self.spiffe = "workload", spiffe
        match = re.fullmatch(f"spiffe://{re.escape(TRUST)}/ns/([^/]+)/sa/([^/]+)", spiffe)
        self.ns = match[1] if match else None

    def is_ref(self, ref):
        policy = self.policy
        if ref[0] == "any":
            return True
        if ref[0] in ("world", "node"):
            return self.kind == ref[0]
        if ref[0] == "namespace":
            return self.kind == "workload" and self.ns == ref[1]
        full = ref[1]
        if full in policy.groups:
            return any(self.is_ref(("name", m)) for m in policy.groups[full])
        if full in policy.cidrs:
            return in_cidr(self.address, policy.cidrs[full])
        if full in policy.identities:
            return self.spiffe == policy.identities[full]
        return self.service == full

    def is_of(self, party):
        return any(self.is_ref(r) for r in party[0]) and not any(self.is_ref(r) for r in party[1])


class Target:
    """Language 9, 12: a destination with its workload's port. "node" is a host's own process, "other" a workload of
    a namespace that the policy does not know: nobody names them, packets may still go there."""

    def __init__(self, policy, request):
        to = request["to"]
        self.policy, self.udp, self.port = policy, request["protocol"] == "udp", request["port"]
        self.service = self.ns = None
        self.externals, self.special = [], None
        self.unknown = False
        if to in ("node", "other"):
            self.special = to
        elif to in policy.services:
            self.service, self.ns = policy.services[to], to.split("/")[0]
        elif to.endswith("/-"):
            self.ns = to[:-2]
        elif to != "world":
            self.take_address(address_of(to))

    def take_address(self, address):
        for service in self.policy.services.values():
            for protocol, lo, hi, target in service.ports:
                if (str(address) in service.addresses and (protocol == "udp") == self.udp and lo <= self.port <= hi):
                    self.service, self.ns, self.port = service, service.ns, target or self.port
                    return
        # A port that no service has at its address reaches nobody.
        self.unknown = is_of_link(address) or any(str(address) in service.addresses for service in self.policy.services.values())
        self.externals = [e for e in self.policy.externals.values() if any(in_cidr(address, c) for c in e.cidrs)]

    def is_workload(self):
        return bool(self.service or self.ns or self.special == "other")

    def mode(self):
        """How a connection to it is protected."""
        if not self.is_workload():
            return "off"
        return mode_of(self.policy, self.service.full if self.service else None, self.ns, self.port)

    def is_world(self):
        return not self.service and not self.ns and not self.externals and not self.special

    def declares(self, ports):
        return any((protocol == "udp") == self.udp and lo <= self.port <= hi for protocol, lo, hi in ports)

    def is_ref(self, ref, declared, l7):
        """DECLARED: only the ports that stand in the policy; workloads of no service and the world declare none."""
        policy = self.policy
        if ref[0] == "any":
            if not declared:
                return True
            return self.is_world() or any(self.is_ref(("name", f), True, l7) for f in [*policy.services, *policy.externals])
        if ref[0] == "world":
            return self.is_world()
        if ref[0] == "namespace":
            if self.ns != ref[1]:
                return False
            return self.is_ref(("name", self.service.full), declared, l7) if self.service else not (declared and l7)
        full = ref[1]
        if full in policy.groups:
            return any(self.is_ref(("name", m), declared, l7) for m in policy.groups[full])
        if full in policy.externals:
            external = policy.externals[full]
            return external in self.externals and (not declared or self.declares([p[:3] for p in external.ports]))
        return self.service is policy.services[full] and (not declared or self.declares(self.service.workload_ports()))

    def is_of(self, rule, l7):
        declared = rule.effect == "allow" or l7
        if asks_verified(rule.when) and not self.is_workload():
            return False
        if rule.ports and not any(lo <= self.port <= hi for lo, hi in rule.ports):
            return False
        return (any(self.is_ref(r, declared, l7) for r in rule.dst[0]) and
                not any(self.is_ref(r, False, False) for r in rule.dst[1]))

    def default(self):
        """Language 2: the narrowest wins; where externals share an address, the strictest of theirs."""
        policy = self.policy
        if self.special == "other":
            return policy.ingress
        if self.ns:
            mine = self.service.ingress if self.service else None
            return mine or policy.spaces.get(self.ns, (None, None))[0] or policy.ingress
        said = [e.egress or policy.spaces[e.ns][1] or policy.egress for e in self.externals] or [policy.egress]
        return next(d for d in ("deny", "audit", "allow") if d in said)


# ---- Requests --------------------------------------------------------------------------------------

UNRESERVED = string.ascii_letters + string.digits + "-._~"
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def normal_path(path):
    match = re.match(r"[A-Za-z][A-Za-z0-9+.\-]*://[^/?#]*", path)
    if match:
        path = path[match.end():]
        path = path if path.startswith("/") else "/"
    path = re.split(r"[?#]", path)[0]
    if not path.startswith("/") or "\\" in path or re.search(r"[\x00-\x20\x7f]", path):
        raise Malformed
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00|%2[Ff]|%5[Cc]", path):
        raise Malformed

    def decode(match):
        char = chr(int(match[1], 16))
        return char if char in UNRESERVED else match[0].upper()
    path = re.sub("/+", "/", re.sub("%(..)", decode, path))
    out, parts = [], path.split("/")[1:]
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if part == "..":
            out = out[:-1]
        elif part != ".":
            out.append(part)
        if part in (".", "..") and last:
            out.append("")
    return "/" + "/".join(out)


def normal_host(host):
    match = re.fullmatch(r"(.*?)(:[0-9]*)?", host, re.S)
    name = match[1] if not host.startswith("[") or match[1].endswith("]") else host
    name = (name[:-1] if name.endswith(".") else name).lower()
    if not re.fullmatch(r"[a-z0-9._\-\[\]:]+", name):
        raise Malformed
    return name


def normal_literal(field, text):
    if field == "http.path":
        return normal_path(text)
    if field == "http.host":
        return normal_host(text)
    return text.strip(" \t") if field == "http.header" else text


class Content:
    """Method, host, path and headers in normal form."""

    def __init__(self, request):
        self.fields, self.headers = {}, {}
        hosts = [request["host"]] if "host" in request else []
        for name, values in request.get("headers", {}).items():
            for value in [values] if isinstance(values, str) else values:
                name = name.lower()
                value = value.strip(" \t")
                if name == "host":
                    hosts.append(value)
                else:
                    self.headers[name] = f"{self.headers[name]},{value}" if name in self.headers else value
        if len(hosts) > 1:
            raise Malformed
        if not TOKEN.fullmatch(request["method"]):
            raise Malformed
        self.fields["http.method"] = request["method"]
        if hosts:
            self.fields["http.host"] = normal_host(hosts[0])
        if "path" in request:
            self.fields["http.path"] = normal_path(request["path"])

    def value(self, field, key):
        return self.headers.get(key.lower()) if field == "http.header" else self.fields.get(field)


# ---- Conditions ------------------------------------------------------------------------------------

def like(pattern, value):
    out, i = "", 0
    while i < len(pattern):
        if pattern.startswith("**", i):
            out, i = out + ".*", i + 2
        elif pattern[i] == "*":
            out, i = out + "[^/]*", i + 1
        elif pattern[i] == "\\" and i + 1 < len(pattern):
            out, i = out + re.escape(pattern[i + 1]), i + 2
        else:
            out, i = out + re.escape(pattern[i]), i + 1
    return re.fullmatch(out, value, re.S) is not None


def atom_holds(atom, target, content):
    _, field, key, op, values = atom
    if field == "peer.verified":
        return target.verified
    if field in ("tcp.port", "udp.port"):
        if (field == "udp.port") != target.udp:
            return False
        inside = any(lo <= target.port <= hi for lo, hi in values)
        return inside != (op == "!=")
    if field == "grpc.method":
        field, values = "http.path", ["/" + v for v in values]
    value = content.value(field, key)
    if value is None or op == "has":
        return value is not None
    if op == "like":
        return like(values[0].lower() if field == "http.host" else values[0], value)
    if op == "matches":
        return re.fullmatch(values[0], value, re.I if field == "http.host" else 0) is not None
    return (value in [normal_literal(field, v) for v in values]) != (op == "!=")


def holds(cond, target, content):
    if cond is None:
        return True
    if cond[0] == "atom":
        return atom_holds(cond, target, content)
    if cond[0] == "not":
        return not holds(cond[1], target, content)
    sides = [holds(c, target, content) for c in cond[1:]]
    return all(sides) if cond[0] == "and" else any(sides)


def is_l7(cond):
    if cond is None:
        return False
    return not cond[1].endswith((".port", ".verified")) if cond[0] == "atom" else any(is_l7(c) for c in cond[1:])


# ---- Verdicts --------------------------------------------------------------------------------------

def shares_of(policy, source, target, content):
    if not target.service or target.service.full not in policy.routes:
        return None
    for arm in policy.routes[target.service.full][0]:
        if content is None and is_l7(arm.when) and (arm.src is None or source.is_of(arm.src)):
            raise Undecided
        if (arm.src is None or source.is_of(arm.src)) and holds(arm.when, target, content):
            total = sum(w for _, w in arm.splits)
            return {(s or target.service.name): w / total for s, w in arm.splits if w}, [s for s, w in arm.splits if w]
    raise AssertionError("the last arm has no condition")


def is_verified(source, target):
    """Language 21. Where nobody says: true where the port is strict and the source has a certificate."""
    said = target.mode() == "strict" if source.verified is None else source.verified
    return said and source.kind == "workload" and not target.udp and target.is_workload()


def matching(policy, request):
    """Names of all rules that match, by effect; the one that is named stands first."""
    source, target = Source(policy, request["from"]), Target(policy, request)
    target.verified = is_verified(source, target)
    content = Content(request) if "method" in request else None
    found = {"deny": [], "allow": [], "audit": []}
    for rule in policy.rules:
        l7 = is_l7(rule.when)
        if l7 and content is None:
            if source.is_of(rule.src) and target.is_of(rule, l7):
                raise Undecided
            continue
        if source.is_of(rule.src) and target.is_of(rule, l7) and holds(rule.when, target, content):
            found[rule.effect].append((l7, rule.name.encode(), rule))
    return {effect: [r for _, _, r in sorted(rules, key=lambda x: x[:2])] for effect, rules in found.items()}


def answer(policy, request, file="policy.mesh"):
    """As `meshc why --format json` says it. Raises Malformed, Undecided."""
    source, target = Source(policy, request["from"]), Target(policy, request)
    if source.unknown or target.unknown:
        return {"verdict": "deny", "rule": "unknown", "where": None, "audit": []}
    found = matching(policy, request)
    named = (found["deny"] or found["allow"] or [None])[0]
    default = target.default()
    verdict = named.effect if named else "deny" if default == "deny" else "allow"
    refused = verdict == "allow" and target.mode() == "strict" and not is_verified(source, target) and source.kind != "node"
    # In the order of the numbers of rules: those without L7 condition first, then by name.
    audit = [r.name for r in found["audit"]] + (["default"] if not named and default == "audit" and not refused else [])
    if refused:
        return {"verdict": "deny", "rule": "plaintext", "where": None, "audit": audit}
    said = {"verdict": verdict, "rule": named.name if named else "default",
            "where": f"{file}:{named.line}:1" if named else None, "audit": audit}
    content = Content(request) if "method" in request else None
    shares = shares_of(policy, source, target, content) if verdict == "allow" else None
    if shares:
        said["shares"] = shares[0]
        if len(shares[1]) == 1 and shares[1][0]:
            said["subset"] = shares[1][0]
    return said


def same(said, got):
    """GOT may say more (open, why); shares are compared as numbers, nine digits are printed."""
    keys = ("verdict", "rule", "where", "audit", "subset")
    if any(said.get(k) != got.get(k) for k in keys) or said.keys() & {"shares"} != got.keys() & {"shares"}:
        return False
    mine, theirs = said.get("shares", {}), got.get("shares", {})
    return mine.keys() == theirs.keys() and all(abs(mine[k] - theirs[k]) < 1e-8 for k in mine)
