"""completion: what each shell offers for a verb's --format is what that verb takes, all of it and nothing else, and
what its --help says.

bash, zsh and fish complete for real; a shell that is not installed is skipped aloud."""
import os
import re
import shutil
import subprocess

from common import ROOT, Folder, expect, skip

WORDS = {"color": "auto always never", "fail-level": "error warning"}
REFUSED = re.compile(r"meshc: (unknown (format|color|level) |\w+ takes no --)")

BASH = '. ./bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _meshc; printf "%s\\n" "${COMPREPLY[@]}"'
# Outside of the line editor compadd is ours: it prints what it was to add, behind what stands before it.
ZSH = """compdef() { }; _files() { }; _describe() { }
compset() { [[ $1 = -P ]] && words[CURRENT]=${words[CURRENT]#*=} }
compadd() { local -a all; if [[ $1 = -a ]]; then all=(${(P)2}); else all=("$@"); fi
  for one in $all; do [[ $one = $words[CURRENT]* ]] && print -r -- $one; done; return 0 }
source ./zsh; words=("$@"); CURRENT=$#; _meshc"""
FISH = "source ./fish; complete -C (string join ' ' -- $argv) | string replace -r '\\t.*' ''"
SCRIPTS = {"bash": ["bash", "-c", BASH, "-"], "zsh": ["zsh", "-f", "-c", ZSH, "-"], "fish": ["fish", "--no-config", "-c", FISH, "--"]}


def verbs():
    with open(os.path.join(ROOT, "compiler", "verbs.def")) as file:
        return re.findall(r"^VERB\((\w+),", file.read(), re.M)


def accepted(folder, verb, flag, words):
    """Those of WORDS that the program does not refuse as FLAG's."""
    return {word for word in words if not REFUSED.match(folder.run(verb, f"--{flag}={word}", "absent.mesh")[2])}


def offered(folder, shell, *line):
    done = subprocess.run([*SCRIPTS[shell], *line], cwd=folder.path, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "HOME": folder.path})
    if not expect(f"{shell}: {' '.join(line)}", done.returncode == 0 and not done.stderr, done.stderr):
        return []
    return done.stdout.split()


def compare(name, have, wants):
    expect(name, len(have) == len(set(have)) and set(have) == wants, f"offered {have}, taken {sorted(wants)}")


def check_shell(folder, shell, formats):
    folder.write(shell, folder.run("completion", shell)[1])
    words = set().union(*formats.values())
    for verb in formats:
        every = set(offered(folder, shell, "meshc", verb, "--format", ""))
        compare(f"{shell}: {verb} --format", sorted(every), accepted(folder, verb, "format", words | every))
        flags = set(re.findall(r"^  (--?[\w-]+)", folder.run(verb, "--help")[1], re.M))
        # fish has no -h either; -k and -w stand in the help of their verb.
        have = set(offered(folder, shell, "meshc", verb, "-")) | set(offered(folder, shell, "meshc", verb, "--"))
        expect(f"{shell}: {verb} -", {"--now", "--inventory", "--fail-level", "-o", "--format"} & have ==
               {"--now", "--inventory", "--fail-level", "-o", "--format"} & flags, f"offered {have}, taken {flags}")
        for flag, choices in WORDS.items():
            if f"--{flag}" not in flags:
                continue
            compare(f"{shell}: {verb} --{flag}", offered(folder, shell, "meshc", verb, f"--{flag}", ""),
                    accepted(folder, verb, flag, {*choices.split(), "pink"}))
    compare(f"{shell}: a format is begun", offered(folder, shell, "meshc", "check", "--format", "s"), {"sarif"})
    compare(f"{shell}: --format on another place", offered(folder, shell, "meshc", "diff", "--color", "never", "--format", ""),
            formats["diff"])


def check_equals(folder, shell):
    """`--format=`, as each shell cuts it up."""
    line = ["--format", "=", "g"] if shell == "bash" else ["--format=g"]
    have = [word.removeprefix("--format=") for word in offered(folder, shell, "meshc", "check", *line)]
    compare(f"{shell}: --format=g", have, {"github"})
    if shell == "bash":
        compare("bash: --format=", offered(folder, shell, "meshc", "check", "--format", "="), set("text json sarif github".split()))


def run():
    folder = Folder()
    names = "text json sarif github junit markdown xml".split()
    formats = {verb: accepted(folder, verb, "format", names) for verb in verbs()}
    expect("each verb takes text", all("text" in taken for taken in formats.values()), formats)
    for verb, taken in formats.items():
        said = re.search("--format FORMAT +how to print: (.*)", folder.run(verb, "--help")[1])
        compare(f"{verb} --help", said[1].split() if said else [], taken)
    for shell in SCRIPTS:
        if not shutil.which(shell):
            skip(f"the completion for {shell}", f"{shell} is not installed")
            continue
        check_shell(folder, shell, formats)
        check_equals(folder, shell)
