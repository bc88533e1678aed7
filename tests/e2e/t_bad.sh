# What a node is given that it must not take: bundles, inventories, requests. Each time a clear message, the
# exit code of commands.md, and the running generation untouched.
topic_begin
workload host 1
workload client 11
workload stranger 12
workload web 21
config <<<$'enrol: {namespaces: [shop]}\nsizes: {endpoints: 24, sockets: 16, backends: 16}\nquarantine: 1\ngenerations: 2'
text='mesh shop: trust "shop.example", ingress deny, egress allow;
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; tcp 9000; }
service web { workload app == "web"; tcp 8080; address 10.96.0.1; }
service twice { workload tier == "back"; tcp 8080; }
allow ask-web: from client, node to web;'
policy p 5 <<<"$text"
people() {
	{
		echo shop client app=client 10.77.0.11
		echo shop web app=web 10.77.0.21
		cat
	} | inventory
}
people </dev/null
serve web web tcp:8080
expect "status without a meshd: exit 2" 2 "$(meshd_ask status --check >/dev/null 2>&1; echo $?)"
meshd_in host
node_meshd || give_up start "meshd does not start"
# Twice: both slots are taken, and what is refused costs neither.
apply p
apply p
in_force() { status 's["digest"], s["generation"], [g["generation"] for g in s["generations"]]'; }
DIGEST=$(in_force)
untouched() { # NAME
	ask client tcp 10.77.0.21 8080
	local allowed=$OUTCOME
	ask stranger tcp 10.77.0.21 8080
	expect "$1: what runs is untouched" "$DIGEST ok refused" "$(in_force) $allowed $OUTCOME"
}

# ---- Bundles -----------------------------------------------------------------------------------------
refused() { # NAME FILE WORDS [EXIT]
	meshd_ask apply "$2" >"$NODE/log/apply" 2>&1
	expect "$1: exit ${4:-1}" "${4:-1}" $?
	expect_true "$1: says why" "$(cat "$NODE/log/apply")" grep -qi -- "$3" "$NODE/log/apply"
}
edit() { # NAME PYTHON: a copy of p.o as $NODE/NAME.o, changed by PYTHON over the bytes `b`, signed again
	/usr/bin/python3 -c '
import sys
b = bytearray(open(sys.argv[1], "rb").read())
exec(sys.argv[3])
open(sys.argv[2], "wb").write(b)' "$NODE/p.o" "$NODE/$1.o" "$2"
	[ "${3:-}" = unsigned ] || "$MESHC" sign -k "$NODE/key" "$NODE/$1.o" >"$NODE/log/sign" 2>&1
}
edit corrupt 'b[len(b) // 2] ^= 1' unsigned
refused corrupt "$NODE/corrupt.o" "changed since"
edit truncated 'del b[len(b) // 2:]' unsigned
refused truncated "$NODE/truncated.o" "not a bundle"
: >"$NODE/empty.o"
refused empty "$NODE/empty.o" "empty"
echo "no ELF at all, but some text" >"$NODE/text.o"
refused text "$NODE/text.o" "not a bundle"
refused folder "$NODE" "not a file"
refused missing "$NODE/nowhere.o" "No such file" 2
edit endian 'b[5] = 2' unsigned
refused "wrong-endian" "$NODE/endian.o" "not a bundle\|endian"
edit machine 'b[18:20] = (62).to_bytes(2, "little")'
refused "another machine" "$NODE/machine.o" "BPF\|machine\|not a bundle"
"$MESHC" compile -o "$NODE/unsigned.o" --policy-version 5 "$NODE/p.mesh" >/dev/null 2>&1
refused unsigned "$NODE/unsigned.o" "not signed"
"$MESHC" keygen -o "$NODE/other" >/dev/null 2>&1
"$MESHC" compile -k "$NODE/other" --policy-version 5 -o "$NODE/wrong.o" "$NODE/p.mesh" >/dev/null 2>&1
refused "signed by another" "$NODE/wrong.o" "none of the 1 keys"
policy older 4 <<<"$text"
refused replayed "$NODE/older.o" "version 4, older than 5"
policy elsewhere 9 <<<"${text/mesh shop/mesh elsewhere}"
refused "another mesh" "$NODE/elsewhere.o" "mesh 'elsewhere'"
edit abi 'at = b.index(b"\"abi\""); d = at + b[at:].index(b"1"); b[d] = ord("7")'
refused "another ABI" "$NODE/abi.o" "ABI 7"
# Well signed, and it lies: an outcome's verdict is turned round. The proof finds it before the switch.
read -r SECTION < <(readelf -SW "$NODE/p.o" | sed -n 's/.* \.rodata *PROGBITS *[0-9a-f]* \([0-9a-f]*\).*/\1/p')
read -r SYMBOL < <(readelf -sW "$NODE/p.o" | awk '$8 == "plan_outcomes" { print $2 }')
edit liar "at = 0x$SECTION + 0x$SYMBOL; b[at + 4] ^= 1; b[at + 12] ^= 1"
refused "a bundle that decides otherwise than it says" "$NODE/liar.o" "expected .* by .*; got "
untouched "bad bundles"

# A program that no policy has.
cp "$BUILD/e2e-foreign.o" "$NODE/foreign.o"
"$MESHC" sign -k "$NODE/key" "$NODE/foreign.o" >/dev/null 2>&1
refused "any other BPF object" "$NODE/foreign.o" "not a bundle\|not made by meshc"

# ---- Inventories ---------------------------------------------------------------------------------------
bad_inventory() { # NAME WORDS, the file on standard input
	local before
	before=$(status 's["epoch"], s["inventory"]["problem"]')
	cat >"$NODE/inventory.new"
	mv "$NODE/inventory.new" "$NODE/inventory.json"
	inventory_taken "$before"
	expect_true "$1: status says why" "$(status 's["inventory"]["problem"]')" eval "status 's[\"inventory\"][\"problem\"]' | grep -qi -- '$2'"
	expect "$1: --check fails" 1 "$(meshd_ask status --check >/dev/null 2>&1; echo $?)"
}
good=$(cat "$NODE/inventory.json")
bad_inventory "half-written" 'json:[0-9]*:[0-9]*' <<<"${good:0:120}"
untouched "half-written inventory"
bad_inventory "two workloads with one address" '10.77.0.21' < <(inventory_json <<'END'
shop client app=client 10.77.0.11
shop web app=web 10.77.0.21
shop thief app=client 10.77.0.21
END
)
bad_inventory "an unknown key" "did you mean .addresses" <<<"${good/\"addresses\"/\"adresses\"}"
bad_inventory "too many for the node" 'sizes: endpoints' < <({
	echo shop client app=client 10.77.0.11
	echo shop web app=web 10.77.0.21
	for n in $(seq 30); do echo "shop more-$n app=more 10.77.9.$n"; done
} | inventory_json)
untouched "bad inventories"
# What it names may be anything; meshd waits for none of it.
mkfifo "$NODE/fifo"
mkdir "$NODE/group"
mkfifo "$NODE/group/cgroup.procs"
for where in "\"netns\": \"$NODE/fifo\"" "\"netns\": \"/dev/null\"" "\"cgroup\": \"$NODE/group\""; do
	people <<<"shop odd app=client 10.77.0.99 $where"
	expect_true "a place that is none: ${where%%:*}: a problem" "$(status 's["problems"]')" \
		eval 'status "s[\"problems\"]" | grep -q "workload shop/odd: "'
done
untouched "places that are none"
people </dev/null
node_wait eval '[ "$(status "s[\"inventory\"][\"quarantined\"]")" = 0 ]'
expect "a good one heals it" 0 "$(meshd_ask status --check >/dev/null 2>&1; echo $?)"
people <<<'shop both app=web,tier=back 10.77.0.12'
expect "a workload of two services is told" 1 "$(meshd_ask status --check >/dev/null 2>&1; echo $?)"
expect_true "by name" "$(status 's["problems"]')" eval 'status "s[\"problems\"]" | grep -q "shop/both matches two services"'
serve stranger both tcp:8080
expect_refused "as a destination it is denied" client tcp 10.77.0.12 8080
expect_true "by the name conflict" "$(last_flow)" flows_have "f['rule'] == 'conflict'"
people </dev/null
node_wait eval '[ "$(status "s[\"inventory\"][\"quarantined\"]")" = 0 ]'
# A quarantine ends while the bundle in force cannot be read.
people <<<'shop gone app=client 10.77.0.98'
people </dev/null
mkdir "$NODE/away"
mv "$NODE"/state/slot-*.o "$NODE/away/"
untold() { status 's["problems"]' | grep -q "inventory in force could not be told anew, which is tried again: the bundle of slot"; }
node_wait untold
expect_true "the end of a quarantine that cannot be told: a problem" "$(status 's["problems"]')" untold
mv "$NODE"/away/slot-*.o "$NODE/state/"
node_wait meshd_ask status --check
expect "... which is tried again: over" "0 0" "$(meshd_ask status --check >/dev/null 2>&1; echo $?) $(status 's["inventory"]["quarantined"]')"

# ---- Full maps -------------------------------------------------------------------------------------------
# 16 exact entries: host processes are `node` by them. The 17th is nobody, and closed.
node_in host /usr/bin/python3 -uc '
import socket, time
held, refused = [], 0
for n in range(24):
    sock = socket.socket()
    sock.settimeout(1)
    try:
        sock.connect(("10.77.0.21", 8080))
        held.append(sock)
    except OSError:
        refused += 1
print(len(held), refused)
time.sleep(5)' >"$NODE/log/full" 2>&1 </dev/null &
NODE_PIDS+=($!)
node_wait grep -q . "$NODE/log/full"
expect "a full map closes" "16 8" "$(cat "$NODE/log/full")"
expect_true "and is counted" "$(stat_of map_full)" test "$(stat_of map_full)" -ge 8
expect "and --check fails" 1 "$(meshd_ask status --check >/dev/null 2>&1; echo $?)"
untouched "a full map"

# ---- The control socket ------------------------------------------------------------------------------------
talk() { /usr/bin/python3 - "$NODE/meshd.sock" "$@" <<'PY'
import json, os, socket, sys, time

path, what = sys.argv[1:3]
def client():
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(3)
    sock.connect(path)
    return sock
def said(sock):
    try:
        return sock.makefile().readline().strip()
    except OSError as error:
        return type(error).__name__

if what == "say":
    sock = client()
    sock.sendall(sys.argv[3].encode("latin1") + b"\n")
    print(said(sock))
elif what == "long":
    sock = client()
    try:
        sock.sendall(b"{" + b" " * 200000)
    except OSError:
        pass
    print(said(sock))
elif what == "many":
    held = []
    for _ in range(200):
        try:
            held.append(client())
        except OSError:
            break
    begun = time.monotonic()
    print(sum("error" in said(sock) for sock in held[-20:]))
elif what == "hold":
    held = [client() for _ in range(30)]
    for sock in held:
        sock.sendall(b'{"verb": "sta')
    print("holding", flush=True)
    time.sleep(4)
elif what == "flood":
    end = time.monotonic() + 2
    while time.monotonic() < end:
        try:
            sock = client()
            sock.sendall(os.urandom(512) + b"\n")
            sock.close()
        except OSError:
            pass
elif what == "nobody":
    os.setgid(65534)
    os.setuid(65534)
    try:
        sock = client()
        sock.sendall(b'{"verb": "off"}\n')
        print(said(sock))
    except OSError as error:
        print(type(error).__name__)
PY
}
expect_true "garbage is answered" "$(talk say $'\001\002 garbage')" eval "talk say 'garbage' | grep -q '\"error\"'"
expect_true "an unknown verb is answered" "$(talk say '{"verb": "format"}')" eval "talk say '{\"verb\": \"format\"}' | grep -q 'unknown verb'"
expect_true "an apply without a bundle is answered" "$(talk say '{"verb": "apply"}')" eval "talk say '{\"verb\": \"apply\"}' | grep -q 'no bundle'"
expect_true "numbers for words are answered" "$(talk say '{"verb": 7, "filter": []}')" eval "talk say '{\"verb\": 7, \"filter\": []}' | grep -q '\"error\"'"
expect_true "an endless line is answered" "$(talk long)" eval "talk long | grep -q '\"error\"'"
expect "others than root and the group are refused" PermissionError "$(talk nobody)"
expect "200 clients: those past the bound are told" 20 "$(talk many)"
talk hold >"$NODE/log/hold" &
HOLD=$!
node_wait grep -q holding "$NODE/log/hold"
expect "30 clients that say half a word: the others are served" 0 "$(timeout 2 "$MESHD" status --config "$NODE/meshd.yaml" >/dev/null 2>&1; echo $?)"
wait $HOLD
talk flood &
FLOOD=$!
sleep 0.3
# The flood is root's as well: all places may be taken at one moment, not at five in a row.
still_answers() {
	local i
	for i in 1 2 3 4 5; do timeout 5 "$MESHD" status --config "$NODE/meshd.yaml" >/dev/null 2>&1 && return; done
	return 1
}
expect_true "flooded: it still answers" "$?" still_answers
wait $FLOOD
untouched "the control socket"
timeout 5 "$MESHD" run --config "$NODE/meshd.yaml" >"$NODE/log/second" 2>&1
expect "a second meshd: exit 2" 2 $?
untouched "a second meshd"

# ---- Configurations ----------------------------------------------------------------------------------------
cp "$NODE/meshd.yaml" "$NODE/good.yaml"
echo "bpfs: /sys/fs/bpf" >>"$NODE/meshd.yaml"
expect "an unknown key: exit 2" 2 "$(timeout 5 "$MESHD" status --config "$NODE/meshd.yaml" >"$NODE/log/config" 2>&1; echo $?)"
expect_true "with its place and a suggestion" "$(cat "$NODE/log/config")" grep -q "meshd.yaml:[0-9]*:[0-9]*: unknown key 'bpfs': did you mean 'bpffs'" "$NODE/log/config"
sed "s|$NODE/bpffs|$NODE/state|" "$NODE/good.yaml" >"$NODE/meshd.yaml"
sed -i "s|meshd.sock|other.sock|" "$NODE/meshd.yaml"
expect "no bpffs: exit 2" 2 "$(timeout 5 "$MESHD" run --config "$NODE/meshd.yaml" >"$NODE/log/config" 2>&1; echo $?)"
expect_true "and says so" "$(cat "$NODE/log/config")" grep -q "is not a bpffs" "$NODE/log/config"
# A bpffs of a private mount namespace would take every link with it.
sed "s|meshd.sock|other.sock|; s|$NODE/bpffs|$NODE/private|" "$NODE/good.yaml" >"$NODE/meshd.yaml"
mkdir -p "$NODE/private"
expect "a private bpffs: exit 2" 2 "$(timeout 5 unshare -m bash -c "mount -t bpf bpf '$NODE/private' && exec '$MESHD' run --config '$NODE/meshd.yaml'" >"$NODE/log/config" 2>&1; echo $?)"
expect_true "and says why" "$(cat "$NODE/log/config")" grep -q "this mount namespace only" "$NODE/log/config"
cp "$NODE/good.yaml" "$NODE/meshd.yaml"
untouched "bad configurations"

# Type information that libbpf does not survive (1.1.2), under a good signature: a child dies of it, not meshd. Which
# changes kill depends on how the types lie: as many as it takes, at least a dozen.
broken() { # NUMBER
	/usr/bin/python3 -c '
import random, sys
bad = bytearray(open(sys.argv[1], "rb").read())
types = bad.find(b"\x9f\xeb\x01\x00") + 24 # behind the header of .BTF
random.seed(int(sys.argv[3]))
for _ in range(3):
    bad[types + random.randrange(6000)] = random.randrange(256)
open(sys.argv[2], "wb").write(bad)' "$NODE/p.o" "$NODE/broken.o" "$1"
	"$MESHC" sign -k "$NODE/key" "$NODE/broken.o" >/dev/null 2>&1
	meshd_ask apply "$NODE/broken.o" >>"$NODE/log/broken" 2>&1
}
codes=
for ((number = 0; number < 120; number++)); do
	broken $number
	codes="$codes $?"
	[ $number -lt 12 ] || ! grep -q 'did not survive' "$NODE/log/broken" || break
done
expect_true "broken types under a good signature are refused" "$codes" eval '! [[ " $codes " == *" 0 "* ]]'
expect_true "at least one of them would have killed its reader" "$(cat "$NODE/log/broken")" grep -q 'did not survive' "$NODE/log/broken"
expect "and meshd answers" 0 "$(meshd_ask status >/dev/null 2>&1; echo $?)"
