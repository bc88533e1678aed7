"""What the rows about the compiler's verbs work on: code.py MESHC FOLDER

Writes FOLDER/check.mesh (10,000 services and rules), old.mesh and new.mesh (they differ in ten rules), test.mesh
(10,000 expectations, all of them true: meshc why says what they are), and never.mesh (1,000 services and rules; two
things that never happen, one of them over any way).
"""
import json
import random
import subprocess
import sys

from policy import policy_text

COUNT = 10000


def changed(text, draw):
    """Ten rules of it otherwise: half gone, half from somebody else."""
    lines = text.splitlines()
    rules = [i for i, line in enumerate(lines) if line.startswith("allow r") and " from s" in line]
    for k, i in enumerate(draw.sample(rules, 10)):
        head, _, to = lines[i].partition(" to ")
        lines[i] = "" if k % 2 else f"{head.rsplit(' ', 1)[0]} s{draw.randrange(COUNT)} to {to}"
    return "\n".join(lines) + "\n"


def expectations(meshc, folder, plain, draw):
    """Half of them follow an allow rule."""
    pairs = draw.choices(plain, k=COUNT // 2) + [(draw.randrange(COUNT), draw.randrange(COUNT)) for _ in range(COUNT // 2)]
    requests = "".join(json.dumps({"from": f"s{a}", "to": f"s{b}", "protocol": "tcp", "port": 8080}) + "\n" for a, b in pairs)
    out = subprocess.run([meshc, "why", "--format=json", "--requests=-", f"{folder}/check.mesh"], input=requests, text=True,
                         capture_output=True, check=True).stdout
    verdicts = [json.loads(line)["verdict"] for line in out.splitlines()]
    return "".join(f"  expect {v}: from s{a} to s{b} port 8080;\n" for v, (a, b) in zip(verdicts, pairs))


def write(folder, name, text):
    with open(f"{folder}/{name}.mesh", "w") as file:
        file.write(text)


def main():
    meshc, folder = sys.argv[1:]
    draw = random.Random(1)
    text, plain = policy_text(COUNT, COUNT, 1)
    small, _ = policy_text(COUNT // 10, COUNT // 10, 1)
    write(folder, "check", text)
    write(folder, "old", text)
    write(folder, "new", changed(text, draw))
    write(folder, "test", text + 'test "many" {\n' + expectations(meshc, folder, plain, draw) + "}\n")
    write(folder, "never", small + 'service island { workload app == "island"; tcp 8080; }\n'
          'never "by any way": from s0 to island through any;\nnever "at once": from any to island;\n')


if __name__ == "__main__":
    main()
