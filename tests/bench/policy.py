"""A policy and an inventory of any size, the same for the same seed: policy.py SERVICES RULES [--workloads N] [--seed N]

Writes FOLDER/policy.mesh and, with --workloads, FOLDER/inventory.json and FOLDER/pairs: who calls whom. Service i is of workloads app=s<i>;
workload k has the address 10.128.0.0 + k (and fd80::k with --ipv6), is of service k mod SERVICES and local nowhere.
Of the rules one in ten has a group as its source, one in twenty names a port, one in fifty denies, one in a
hundred has addresses as its source or is an audit: what a mesh has, and nothing that makes a rule for free.
"""
import argparse
import ipaddress
import json
import random

V4 = int(ipaddress.ip_address("10.128.0.0"))
VIP = int(ipaddress.ip_address("10.96.0.0"))
V6 = int(ipaddress.ip_address("fd80::"))


def policy_text(services, rules, seed):
    """The text, and who is allowed to reach whom: (source, destination) of the plain allow rules."""
    draw = random.Random(seed)
    plain = []
    lines = ['mesh bench: trust "bench.example", ingress deny, egress allow;', 'mtls off because "a benchmark";', "namespace bench;"]
    for i in range(services):
        lines += [f'service s{i} {{ workload app == "s{i}"; address {ipaddress.ip_address(VIP + 256 + i)}; tcp 80 to 8080; tcp 9000; }}']
    groups = max(1, services // 50)
    for g in range(groups):
        members = draw.sample(range(services), min(services, draw.randint(2, 20)))
        lines += [f"group g{g} = {', '.join(f's{m}' for m in members)};"]
    blocks = max(1, services // 100)
    for b in range(blocks):
        lines += [f"cidr c{b} = {ipaddress.ip_address((172 << 24) + (b << 12))}/20;"]
    for r in range(rules):
        kind, to = draw.random(), f"s{draw.randrange(services)}"
        source = f"g{draw.randrange(groups)}" if kind < 0.1 else f"c{draw.randrange(blocks)}" if kind > 0.99 else f"s{draw.randrange(services)}"
        port = draw.choice([" port 8080", " port 9000"]) if draw.random() < 0.05 else ""
        effect = draw.random()
        verb = "deny" if effect < 0.02 else "audit" if effect > 0.99 else "allow"
        lines += [f"{verb} r{r}: from {source} to {to}{port};"]
        if verb == "allow" and source[0] == "s" and not port:
            plain += [(int(source[1:]), int(to[1:]))]
    return "\n".join(lines) + "\n", plain


def pairs(workloads, services, plain, seed):
    """Every workload is a source and a destination equally often; half of the pairs are of an allow rule."""
    draw = random.Random(seed)
    whose = [[] for _ in range(services)]
    for k in range(1, workloads + 1):
        whose[k % services] += [k]
    allowed = [(draw.choice(whose[a]), draw.choice(whose[b])) for a, b in plain if a != b and whose[a] and whose[b]]
    everybody = list(range(1, workloads + 1)) * max(1, 10000 // workloads)
    others = everybody[:]
    draw.shuffle(everybody)
    draw.shuffle(others)
    some = [p for p in zip(everybody, others) if p[0] != p[1]]
    some += [draw.choice(allowed) for _ in some] if allowed else []
    draw.shuffle(some)
    return some


def inventory(workloads, services, ipv6):
    one = lambda k: [str(ipaddress.ip_address(V4 + k))] + ([str(ipaddress.ip_address(V6 + k))] if ipv6 else [])
    return {"node": "n1", "workloads": [
        {"namespace": "bench", "name": f"w{k}", "labels": {"app": f"s{k % services}"}, "account": "w", "addresses": one(k), "node": "n2"}
        for k in range(1, workloads + 1)]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("services", type=int)
    parser.add_argument("rules", type=int)
    parser.add_argument("--workloads", type=int, default=0)
    parser.add_argument("--ipv6", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    text, plain = policy_text(options.services, options.rules, options.seed)
    with open(f"{options.folder}/policy.mesh", "w") as file:
        file.write(text)
    if options.workloads:
        with open(f"{options.folder}/inventory.json", "w") as file:
            json.dump(inventory(options.workloads, options.services, options.ipv6), file)
        with open(f"{options.folder}/pairs", "w") as file:
            for a, b in pairs(options.workloads, options.services, plain, options.seed):
                print(ipaddress.ip_address(V4 + a), ipaddress.ip_address(V4 + b), file=file)


if __name__ == "__main__":
    main()
