"""Pairs of policies that mean the same."""

BASE = """mesh shop: trust "shop.example", ingress deny, egress allow;
mtls off because "one machine";
namespace shop;
service frontend { workload app == "frontend"; http 8080; }
service checkout { workload app == "checkout" and tier in {"gold", "silver"}; grpc 9090; }
service ledger { workload app == "ledger"; address 10.96.0.10; tcp 5432; tcp 6000..6009; }
service reviews { workload app == "reviews"; address 10.96.0.11, fd00:96::11; http 80 to 8080;
                  subset v1 = version == "1"; subset v2 = version == "2"; }
external stripe { cidr 203.0.113.0/24; tcp 443; }
cidr office = 198.51.100.0/24 except 198.51.100.66/32;
group money = checkout, ledger;
allow place: from frontend to checkout when grpc.method == "shop.Checkout/Place";
allow read: from frontend, office to reviews when http.method in {"GET", "HEAD"} and http.path like "/reviews/**";
allow post: from checkout to ledger port 5432;
deny dev: from namespace dev to money;
deny debug: from any except frontend to reviews when has http.header["x-debug"];
audit deletes: from any to reviews when http.method == "DELETE";
allow pay: from checkout to stripe;
deny out: from ledger to world;
route reviews { when http.header["x-canary"] == "true" split v2 100; split v1 90, v2 10; }
never "dev reaches money": from namespace dev to money;
test "place" { expect allow by place: from frontend to checkout with grpc.method = "shop.Checkout/Place"; }
"""


def edited(*changes):
    text = BASE
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def reordered():
    lines = BASE.replace(";\n                  subset", "; subset").splitlines()
    return "\n".join(lines[:3] + lines[:2:-1]) + "\n"


def moved():
    """Another namespace speaks of this one's names in full."""
    rule = "deny dev: from namespace dev to money;\n"
    return BASE.replace(rule, "") + "namespace other;\n" + rule.replace("money", "shop/money")


DATED = edited(("namespace shop;", 'namespace shop;\nmtls permissive for reviews until "2999-01-01";'))

PAIRS = [
    ("itself", BASE, BASE),
    ("reordered", BASE, reordered()),
    ("comments and blanks", BASE, "# a comment\n" + BASE.replace(";\n", ";   # why\n\n")),
    ("a renamed rule", BASE, edited(("allow post:", "allow zz-post:"))),
    ("all renamed", BASE, edited(("allow read:", "allow aaa:"), ("deny dev:", "deny z:"), ("deny debug:", "deny a:"))),
    ("no tests, no nevers", BASE, BASE[:BASE.index("never ")]),
    ("audits", BASE, edited(("audit deletes: from any to reviews when http.method == \"DELETE\";\n", ""))),
    ("a rule elsewhere", BASE, moved()),
    ("== or ==", BASE, edited(('in {"GET", "HEAD"} and', '== "GET" and'), ("allow post:", 'allow read-2: from frontend, office to reviews '
                              'when http.method == "HEAD" and http.path like "/reviews/**";\nallow post:'))),
    ("in, or", BASE, edited(('http.method in {"GET", "HEAD"} and', '(http.method == "HEAD" or http.method == "GET") and'))),
    ("the order of a list", BASE, edited(('{"GET", "HEAD"}', '{"HEAD", "GET"}'), ('{"gold", "silver"}', '{"silver", "gold"}'))),
    ("like, matches", BASE, edited(('like "/reviews/**"', 'matches "/reviews/.*"'))),
    ("matches, another", BASE, edited(('like "/reviews/**"', 'matches "/reviews(/.*)"'))),
    ("not not", BASE, edited(('when has http.header["x-debug"]', 'when not (not has http.header["x-debug"])'))),
    ("de Morgan", edited(("when has http.header", 'when not (http.method == "GET" or http.path == "/a") and has http.header')),
     edited(("when has http.header", 'when (not http.method == "GET") and not http.path == "/a" and has http.header'))),
    ("what no string is", BASE, edited(('allow post:', 'deny no-one: from any to reviews when http.path like "/a/**" and http.path matches ".*/b"'
                                        ' and http.path matches "/c.*" or http.method == "ZAP" and has http.header["x-debug"];\nallow post:'))
     .replace("from any except frontend to reviews when has", "from any except frontend to reviews when has")),
    ("a group written out", BASE, edited(("deny dev: from namespace dev to money", "deny dev: from namespace dev to ledger, checkout"))),
    ("a cidr in halves", BASE, edited(("198.51.100.0/24 except", "198.51.100.0/25, 198.51.100.128/25 except"))),
    ("ports of a rule", BASE, edited(("to ledger port 5432", "to ledger port {5432..5432}"))),
    ("a rule in two", BASE, edited(("allow read: from frontend, office", "allow read-o: from office to reviews when http.method in "
                                    "{\"GET\", \"HEAD\"} and http.path like \"/reviews/**\";\nallow read: from frontend"))),
    ("a hidden rule", BASE, edited(("allow post:", "allow post-again: from checkout to ledger port 5432;\nallow post:"))),
    ("a deny of what the default denies", BASE, edited(("deny dev:", "deny nobody: from node to ledger;\ndeny dev:"))),
    ("an allow of what the default allows", BASE, edited(("deny out:", "allow web: from frontend to world;\ndeny out:"))),
    ("the narrowest default says the same", BASE, edited(("http 8080; }", "http 8080; ingress deny; }"))),
    ("a default of audit", edited(("egress allow", "egress audit")), BASE),
    ("weights", BASE, edited(("v1 90, v2 10;", "v2 1, v1 9;"))),
    ("one arm in two", BASE, edited(('when http.header["x-canary"] == "true" split v2 100;',
                                     'from frontend when http.header["x-canary"] == "true" split v2 1; when http.header["x-canary"] == "true" split v2 7;'))),
    ("a route that says nothing", BASE, BASE + "route ledger { split per connection 100; }\n"),
    ("a namespace that nobody is allowed from", BASE, BASE + "namespace new: ingress deny;\n"),
    ("an unused cidr", BASE, edited(("cidr office", "cidr spare = 192.0.2.0/24;\ncidr office"))),
    ("an unused identity", BASE, edited(("cidr office", 'identity deployer = "spiffe://shop.example/ns/ci/sa/deployer";\ncidr office'))),
    ("the account that a service has anyway", BASE, edited(('app == "ledger";', 'app == "ledger"; account ledger;'))),
    ("an audit, its names in another order", edited(("audit deletes: from any", "audit deletes: from frontend, office")),
     edited(("audit deletes: from any", "audit deletes: from office, frontend"))),
    ("an audit, its group written out", edited(("to reviews when http.method == \"DELETE\"", "to money")),
     edited(("to reviews when http.method == \"DELETE\"", "to ledger, checkout"))),
    ("an audit of other requests", BASE, edited(('== "DELETE"', '== "PUT"'))),
    ("an audit of other sources", BASE, edited(("audit deletes: from any", "audit deletes: from world"))),
    ("an audit of other destinations", BASE, edited(("cidr office", "group logged = reviews;\ncidr office"), ("audit deletes: from any to reviews", "audit deletes: from any to frontend"))),
    ("an audit of another port", edited(("to reviews when http.method == \"DELETE\"", "to ledger port 5432")),
     edited(("to reviews when http.method == \"DELETE\"", "to ledger port 6000"))),
    ("an audit's name", BASE, edited(("audit deletes", "audit removals"))),
    ("a date", DATED, DATED.replace("2999-01-01", "2999-12-31")),
    ("the name of a date's scope", DATED, DATED.replace("for reviews until", "for shop/reviews until")),
    ("a reason", BASE, edited(("one machine", "two machines"))),
]

# What is no difference and said: from old to new, and back. Of the other pairs nothing is.
NOTES = {
    "audits": (["audit deletes is removed"], ["audit deletes is added"]),
    "a default of audit": (["default of node, world, shop/stripe: allow, was audit"], ["default of node, world, shop/stripe: audit, was allow"]),
    **{f"an audit of {what}": 2 * (["audit deletes asks for other requests"],)
       for what in ("other requests", "other sources", "other destinations", "another port")},
    "an audit's name": (["audit deletes is removed", "audit removals is added"], ["audit removals is removed", "audit deletes is added"]),
    "a date": (["mtls permissive for reviews: until 2999-12-31, was until 2999-01-01"],
               ["mtls permissive for reviews: until 2999-01-01, was until 2999-12-31"]),
}
