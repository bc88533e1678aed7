"""What the words of a group of `meshc diff` mean: is a request among its sources, destinations, ports?"""
import ipaddress
import re

import oracle
from random_policy import TRUST


def plain(word):
    return word.replace('"', "")


def split_id(spiffe):
    match = re.fullmatch(f"spiffe://{re.escape(TRUST)}/ns/([^/]+)/sa/([^/]+)", spiffe)
    return match.groups() if match else (None, None)


def spaces_of(policy):
    """Namespaces that the policy names anywhere."""
    parties = [p for r in policy.rules for p in (r.src, r.dst)] + [a.src for arms, _ in policy.routes.values() for a in arms if a.src]
    named = {ref[1] for party in parties for refs in party for ref in refs if ref[0] == "namespace"}
    return named | set(policy.spaces) | {split_id(i)[0] for i in policy.identities.values()}


class Request:
    """A request as both policies see it: a service that one lacks is a workload of its namespace to it."""

    def __init__(self, policies, request):
        self.policies, self.request = policies, request
        self.sides = [self.told_to(p) for p in policies]
        self.sources = [oracle.Source(p, s["from"]) for p, s in zip(policies, self.sides)]
        self.targets = [oracle.Target(p, s) for p, s in zip(policies, self.sides)]

    def told_to(self, policy):
        side = dict(self.request)
        source = side["from"]
        name = source if isinstance(source, str) else source.get("service")
        if name and "/" not in name and "namespace" in source and not isinstance(source, str):
            name = f"{source['namespace']}/{name}"
        if name and "/" in name and name not in policy.services and not name.endswith("/-") and not is_address(name):
            side["from"] = {"namespace": name.split("/")[0]}
            if not isinstance(source, str):
                side["from"].update({k: source[k] for k in ("address", "verified") if k in source})
        if "/" in side["to"] and not side["to"].endswith("/-") and side["to"] not in policy.services:
            side["to"] = side["to"].split("/")[0] + "/-"
        return side

    def source_names(self):
        source = self.request["from"]
        if isinstance(source, str):
            return {"world" if is_address(source) else source}
        if source.get("spiffe"):
            ns, account = split_id(source["spiffe"])
            if not any(source["spiffe"] in [*p.identities.values(), *(s.id() for s in p.services.values())] for p in self.policies):
                return {self.space(ns)}
            return {source["spiffe"], *self.names_of_id(source["spiffe"], f"{ns}/{account}")}
        if source.get("service") in ("world", "node") and "namespace" not in source:
            return {source["service"]}
        if "service" in source:
            return {source["service"] if "/" in source["service"] else f"{source['namespace']}/{source['service']}"}
        return {self.space(source["namespace"])} if "namespace" in source else {"world"}

    def names_of_id(self, spiffe, derived):
        """What else an ID goes by: the service that it is the ID of on both sides, or on one while the other has neither
        the service nor the ID; the name that it would have as a service, where none has that."""
        services = [s.service for s in self.sources]
        free = [spiffe not in p.identities.values() and services[1 - i] not in p.services for i, p in enumerate(self.policies)]
        if services[0] == services[1] or (services[0] and not services[1] and free[1]) or (services[1] and not services[0] and free[0]):
            return {services[0] or services[1] or derived}
        return set() if any(derived in p.services for p in self.policies) else {derived}

    def space(self, ns):
        # An ID without a namespace is of none, also where an identity of a policy is such a one.
        return f"{ns}/-" if ns and any(ns in spaces_of(p) for p in self.policies) else "other"

    def target_names(self):
        to, old, new = self.request["to"], *self.targets
        if new.service or old.service:
            return {(new.service or old.service).full}
        if to in ("world", "node", "other"):
            return {to}
        if to.endswith("/-"):
            return {self.space(to[:-2])}
        was, now = ("+".join(sorted(e.full for e in t.externals)) or "world" for t in (old, new))
        return {now if was == now else f"{now} (was {was})"}

    def address(self):
        return self.sources[1].address

    def is_source(self, element):
        who, _, where = element.partition(" at ")
        if where and not self.is_where(where):
            return False
        if not where and any(plain(who) in p.cidrs for p in self.policies):
            return self.is_where(who)
        if re.match(r"[0-9a-f:.]+-[0-9a-f:.]+$", who) or is_address(who):
            return self.is_where(who)
        return self.is_who(who, self.source_names(), self.sources[1].ns)

    def is_who(self, who, names, ns):
        if who == "any" or who.startswith("any except "):
            return not who[4:] or not any(self.is_who(w, names, ns) for w in who[11:].split(", "))
        words = who.split(", ")
        if len(words) > 1:
            return any(self.is_who(w, names, ns) for w in words)
        word = plain(who)
        if word.startswith("namespace "):
            return ns == word[10:]
        for policy in reversed(self.policies):
            if word in policy.groups:
                return any(self.is_who(m, names, ns) for m in policy.groups[word])
            if word in policy.identities and (policy.identities[word] in names or any(
                    s.id() == policy.identities[word] and s.full in names for s in policy.services.values())):
                return True
        return word in names

    def is_where(self, where):
        if where.startswith("any except "):
            return not self.is_where(where[11:])
        for word in map(plain, where.split(", ")):
            cidr = next((p.cidrs[word] for p in reversed(self.policies) if word in p.cidrs), None)
            if cidr:
                if oracle.in_cidr(self.address(), cidr):
                    return True
                continue
            first, _, last = word.partition("-")
            ends = [mapped(ipaddress.ip_address(a)) for a in (first, last or first)]
            # An address that is not known is in no cidr, and so in the block that holds none.
            if self.address() is not None and ends[0] <= mapped(self.address()) <= ends[1]:
                return True
        return False

    def is_target(self, element):
        return self.is_who(element, self.target_names(), self.targets[1].ns or self.targets[0].ns)

    def is_port(self, element):
        protocol, _, numbers = element.partition(" ")
        target = self.targets[1]
        if (protocol == "udp") != target.udp:
            return False
        lo, _, hi = numbers.partition("..")
        return not numbers or int(lo) <= target.port <= int(hi or lo)

    def shown(self):
        """By side: is a certificate shown?"""
        return [oracle.is_verified(s, t) for s, t in zip(self.sources, self.targets)]

    def is_refused(self):
        """A side takes nothing without a certificate, and on one side at least there is none: that is told by the modes."""
        strict = any(t.mode() == "strict" for t in self.targets)
        return strict and not all(self.shown()) and self.sources[0].kind != "node"

    def is_in(self, group):
        if group.get("verified", self.shown()[1]) != self.shown()[1]:
            return False
        return (any(map(self.is_source, group["sources"])) and any(map(self.is_target, group["destinations"]))
                and any(map(self.is_port, group["ports"])))


def mapped(address):
    return int(address) + (0xffff << 32 if address.version == 4 else 0)


def is_address(text):
    try:
        ipaddress.ip_address(text)
        return True
    except ValueError:
        return False
