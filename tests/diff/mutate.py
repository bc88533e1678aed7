"""Changes to a random policy: what a pull request does to one."""
import copy
import random

import random_policy
from random_policy import EFFECTS, chance


def refs_of(policy):
    for rule in policy.rules:
        yield from (rule.src[0], rule.src[1], rule.dst[0], rule.dst[1])
    for arms, _ in policy.routes.values():
        yield from (part for arm in arms if arm.src for part in arm.src)


def drop_rule(rng, policy, l7):
    if len(policy.rules) > 1:
        policy.rules.remove(rng.choice(policy.rules))


def add_rule(rng, policy, l7):
    policy.rules.append(random_policy.random_rule(rng, policy, 1000 + rng.randrange(100000), l7))


def flip_effect(rng, policy, l7):
    rule = rng.choice(policy.rules)
    rule.effect = rng.choice(EFFECTS)


def other_condition(rng, policy, l7):
    conditions = [r for r in policy.rules if r.when]
    if conditions:
        rule = rng.choice(conditions)
        web = random_policy.speaks(policy, rule) or {"tcp"}
        atom = random_policy.random_l4_atom
        if l7 and web <= {"http", "grpc"}:
            atom = lambda r: random_policy.random_l7_atom(r, web == {"grpc"})
        rule.when = rng.choice([None, random_policy.random_cond(rng, atom), ("not", rule.when),
                                ("and", rule.when, random_policy.random_cond(rng, atom))])


def other_party(rng, policy, l7):
    rule = rng.choice(policy.rules)
    if chance(rng, 50):
        rule.src = random_policy.random_party(rng, policy, random_policy.source_ref)
    elif not rule.when:
        rule.dst = random_policy.random_party(rng, policy, random_policy.target_ref)
        rule.ports = None


def other_ports(rng, policy, l7):
    rule = rng.choice(policy.rules)
    if rule.effect != "allow":
        rule.ports = rng.choice([None, [random_policy.random_range(rng)]])


def other_default(rng, policy, l7):
    kind = rng.randrange(4)
    if kind == 0:
        policy.ingress = rng.choice(EFFECTS)
    elif kind == 1:
        policy.egress = rng.choice(EFFECTS)
    elif kind == 2:
        policy.spaces[rng.choice(list(policy.spaces))] = (rng.choice(EFFECTS + [None]), rng.choice(EFFECTS + [None]))
    else:
        rng.choice(list(policy.services.values())).ingress = rng.choice(EFFECTS + [None])


def other_cidr(rng, policy, l7):
    if policy.cidrs:
        policy.cidrs[rng.choice(list(policy.cidrs))] = random_policy.random_cidr(rng)


def other_external(rng, policy, l7):
    if policy.externals:
        external = rng.choice(list(policy.externals.values()))
        kind = rng.randrange(3)
        if kind == 0:
            external.cidrs = [random_policy.random_cidr(rng)]
        elif kind == 1:
            external.egress = rng.choice(EFFECTS + [None])
        else:
            external.ports = [(p, lo, hi, None) for p, lo, hi, _ in random_policy.random_ports(rng, ["tcp", "udp"])]


def other_group(rng, policy, l7):
    groups = [g for g in policy.groups.values() if len(g) > 1]
    if groups:
        group = rng.choice(groups)
        group.remove(rng.choice(group))


def other_identity(rng, policy, l7):
    if policy.identities:
        services = list(policy.services.values())
        policy.identities[rng.choice(list(policy.identities))] = rng.choice([
            f"spiffe://{random_policy.TRUST}/ns/far/sa/robot9", "spiffe://other.example/x/9", rng.choice(services).id()])


def other_account(rng, policy, l7):
    service = rng.choice(list(policy.services.values()))
    if not service.spiffe:
        service.account = f"acc{rng.randrange(100, 999)}"


def other_route(rng, policy, l7):
    full = rng.choice(list(policy.services))
    if chance(rng, 30) and full in policy.routes:
        del policy.routes[full]
        return
    if policy.routes and chance(rng, 70):
        full = rng.choice(list(policy.routes))
        arm = rng.choice(policy.routes[full][0])
        arm.splits = [(s, w + rng.choice([0, 1, 10])) for s, w in arm.splits]
        return
    policy.routes[full] = random_policy.random_route(rng, policy, policy.services[full], l7)


def add_service(rng, policy, l7):
    ns = rng.choice(list(policy.spaces) + ["fresh"])
    policy.spaces.setdefault(ns, (None, None))
    service = random_policy.random_service(rng, ns, f"new{rng.randrange(1000)}", l7)
    policy.services[service.full] = service
    add_rule(rng, policy, l7)
    policy.rules[-1].src = ([("name", service.full)], [])


def drop_service(rng, policy, l7):
    if len(policy.services) < 3:
        return
    full = rng.choice(list(policy.services))
    for group in policy.groups.values():
        if full in group and len(group) > 1:
            group.remove(full)
    if any(full in group for group in policy.groups.values()) or policy.services[full].id() in policy.identities.values():
        return
    del policy.services[full]
    policy.mtls = [m for m in policy.mtls if m[1] != ("name", full)]
    policy.routes.pop(full, None)
    for refs in refs_of(policy):
        while ("name", full) in refs:
            refs.remove(("name", full))
    policy.rules = [r for r in policy.rules if r.src[0] and r.dst[0]]
    for name, (arms, sticky) in list(policy.routes.items()):
        kept = [a for a in arms if not a.src or a.src[0]]
        policy.routes[name] = (kept, sticky)


def other_mtls(rng, policy, l7):
    if policy.mtls and chance(rng, 40):
        policy.mtls.remove(rng.choice(policy.mtls))
    else:
        random_policy.random_mtls(rng, policy)


def other_peer(rng, policy, l7):
    random_policy.add_peer(rng, policy, rng.choice(policy.rules))


def rename_rule(rng, policy, l7):
    rng.choice(policy.rules).name = f"renamed{rng.randrange(10000)}"


KINDS = [drop_rule, add_rule, add_rule, flip_effect, other_condition, other_condition, other_party, other_ports, other_default,
         other_cidr, other_external, other_group, other_identity, other_account, other_route, other_route, add_service,
         drop_service, rename_rule, other_mtls, other_mtls, other_peer, other_peer]


def mutate(policy, seed, l7):
    rng = random.Random(f"mutate {seed}")
    changed = copy.deepcopy(policy)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if changed.rules:
            rng.choice(KINDS)(rng, changed, l7)
    return changed
