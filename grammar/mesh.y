/* The language. Actions only construct; names, types and values are judged by later passes. */
%require "3.8"
%expect 0
%define api.pure full
%define api.location.type {struct span}
%define parse.error custom
/* Else what is expected would be guessed from default reductions. */
%define parse.lac full
%param { void *scanner }
%parse-param { struct parser *parser }
%initial-action { @$ = (struct span){.file = parser->file}; }

%code requires {
#include "pass/parser.h"
}
%code {
#include "mesh.lex.h"

/* Bounds the nesting of parentheses, and with it the recursion of every pass behind. */
#define YYMAXDEPTH 1000

/* What is left out at the beginning has no place. */
#define YYLLOC_DEFAULT(now, rhs, n)                                                                                    \
	do {                                                                                                           \
		int first_ = 1;                                                                                        \
		while (first_ < (n) && !YYRHSLOC(rhs, first_).len)                                                     \
			first_++;                                                                                      \
		if (n) {                                                                                               \
			(now) = YYRHSLOC(rhs, first_);                                                                 \
			(now).len = YYRHSLOC(rhs, n).offset + YYRHSLOC(rhs, n).len - (now).offset;                     \
		} else {                                                                                               \
			(now) = YYRHSLOC(rhs, 0);                                                                      \
			(now).offset += (now).len;                                                                     \
			(now).len = 0;                                                                                 \
		}                                                                                                      \
	} while (0)

static void yyerror(struct span *span, void *scanner, struct parser *parser, const char *message)
{
	(void)scanner;
	if (strstr(message, "memory"))
		diag_add(parser->diags, DIAG_TOO_DEEP, *span, "nested deeper than the parser goes");
}

static struct ast_decl *decl_add(struct parser *parser, struct ast_decl *decl)
{
	*parser->ast->last = decl;
	parser->ast->last = &decl->next;
	return decl;
}

/* Adds nothing to a chain that is already too deep: recursion behind the parser stays bounded. */
static struct ast_expr *deeper(struct parser *parser, struct ast_expr *expr)
{
	if (++parser->depth == PARSER_DEPTH * 50)
		diag_add(parser->diags, DIAG_TOO_DEEP, expr->span, "a condition of more than %d parts", PARSER_DEPTH * 50);
	return parser->depth > PARSER_DEPTH * 50 ? (expr->left ? expr->left : expr) : expr;
}

static struct ast_expr *whole(struct parser *parser, struct ast_expr *expr)
{
	parser->depth = 0;
	return expr;
}

/* The key of a label hides behind its name. */
static struct ast_expr *atom(struct parser *parser, struct span span, struct ast_text label, enum ast_op op,
			     struct ast_text *values, struct ast_range *numbers)
{
	const char *key = label.next ? label.next->text : NULL;
	label.next = NULL;
	return NODE(ast_expr, span, .name = label, .key = key, .op = op, .values = values, .numbers = numbers);
}

static struct ast_text *text_node(struct parser *parser, struct ast_text text)
{
	struct ast_text *node = arena_alloc(parser->arena, sizeof(*node));
	*node = text;
	node->next = NULL;
	return node;
}
}

%union {
	struct ast_text text;
	long long number;
	struct ast_text *texts;
	struct ast_range *range;
	struct ast_ref *ref;
	struct ast_party *party;
	struct ast_expr *expr;
	struct ast_item *item;
	struct ast_split *split;
	struct ast_arm *arm;
	struct ast_with *with;
	struct ast_expect *expect;
	struct ast_decl *decl;
	int effect;
	int flag;
	const char *word;
}

%token END 0 "the end of the text"
%token <text> NAME "a name" STRING "a string" ADDR "an address" FIELD "a field"
%token <number> NUMBER "a number"
%token EQ "'=='" NE "'!='" DOTS "'..'" BAD "a bad character"
%token FROM "from" TO "to" WHEN "when" AND "and" OR "or" NOT "not" IN "in" HAS "has" LIKE "like" MATCHES "matches"
%token ANY "any" WORLD "world" NODE_ "node" NAMESPACE "namespace" EXCEPT "except"
%token <text> MESH "mesh" TRUST "trust" INGRESS "ingress" EGRESS "egress" DENY "deny" ALLOW "allow" AUDIT "audit"
%token <text> SERVICE "service" EXTERNAL "external" IDENTITY "identity" CIDR "cidr" GROUP "group" WORKLOAD "workload"
%token <text> ADDRESS "address" ACCOUNT "account" TCP "tcp" UDP "udp" HTTP "http" GRPC "grpc" SUBSET "subset"
%token <text> MTLS "mtls" STRICT "strict" PERMISSIVE "permissive" OFF "off" FOR "for" UNTIL "until"
%token <text> BECAUSE "because" PORT "port" ROUTE "route" SPLIT "split" PER "per" CONNECTION "connection"
%token <text> STICKY "sticky" BY "by" SOURCE "source" NEVER "never" THROUGH "through" TEST "test" EXPECT "expect"
%token <text> WITH "with"

%type <text> name word word_but_per qualified label value
%type <texts> qualified_list addr_list addr_excepts value_list subset_name
%type <range> range range_list ports
%type <number> target weight
%type <ref> ref ref_list excepts mtls_scope
%type <party> sources targets from_opt
%type <expr> expr term factor atom when_opt subset_def
%type <item> service_items service_item external_items external_item subset_defs
%type <split> splits split
%type <arm> arms arm
%type <with> with_opt withs with
%type <expect> expects expect
%type <effect> effect
%type <flag> per_connection through
%type <word> protocol verdict_word
%type <decl> default_words

%%

policy
	: %empty
	| policy declaration
	;

declaration
	: MESH name ':' default_words ';'	{ $4->name = $2; $4->span = @$; $4->kind = DECL_MESH; decl_add(parser, $4); }
	| NAMESPACE name ';'			{ decl_add(parser, NODE(ast_decl, @$, .kind = DECL_NAMESPACE, .name = $2)); }
	| NAMESPACE name ':' default_words ';'	{ $4->name = $2; $4->span = @$; $4->kind = DECL_DEFAULT; decl_add(parser, $4); }
	| SERVICE name '{' service_items '}'	{ decl_add(parser, NODE(ast_decl, @$, .kind = DECL_SERVICE, .name = $2, .items = $4)); }
	| SERVICE name '{' service_items error '}'	{ yyerrok; }
	| EXTERNAL name '{' external_items '}'	{ decl_add(parser, NODE(ast_decl, @$, .kind = DECL_EXTERNAL, .name = $2, .items = $4)); }
	| EXTERNAL name '{' external_items error '}'	{ yyerrok; }
	| IDENTITY name '=' STRING ';'		{ decl_add(parser, NODE(ast_decl, @$, .kind = DECL_IDENTITY, .name = $2, .value = $4)); }
	| CIDR name '=' addr_list addr_excepts ';'
		{ decl_add(parser, NODE(ast_decl, @$, .kind = DECL_CIDR, .name = $2,
				       .items = NODE(ast_item, @$, .kind = ITEM_CIDR, .texts = $4, .except = $5))); }
	| GROUP name '=' qualified_list ';'	{ decl_add(parser, NODE(ast_decl, @$, .kind = DECL_GROUP, .name = $2, .members = $4)); }
	| MTLS STRICT mtls_scope ports ';'	{ decl_add(parser, NODE(ast_decl, @$, .kind = DECL_MTLS, .mode = "strict", .scope = $3, .scope_port = $4)); }
	| MTLS PERMISSIVE mtls_scope ports UNTIL STRING ';'
		{ decl_add(parser, NODE(ast_decl, @$, .kind = DECL_MTLS, .mode = "permissive", .scope = $3, .scope_port = $4, .value = $6)); }
	| MTLS OFF mtls_scope ports BECAUSE STRING ';'
		{ decl_add(parser, NODE(ast_decl, @$, .kind = DECL_MTLS, .mode = "off", .scope = $3, .scope_port = $4, .value = $6)); }
	| effect name ':' FROM sources TO targets when_opt ';'
		{ decl_add(parser, NODE(ast_decl, @$, .kind = DECL_RULE, .effect = $1, .name = $2, .from = $5, .to = $7, .when = $8)); }
	| ROUTE qualified '{' arms '}'		{ decl_add(parser, NODE(ast_decl, @$, .kind = DECL_ROUTE, .name = $2, .arms = $4)); }
	| ROUTE qualified '{' arms error '}'	{ yyerrok; }
	| NEVER STRING ':' FROM sources TO targets through ';'
		{ decl_add(parser, NODE(ast_decl, @$, .kind = DECL_NEVER, .name = $2, .from = $5, .to = $7, .through_any = $8)); }
	| TEST STRING '{' expects '}'		{ decl_add(parser, NODE(ast_decl, @$, .kind = DECL_TEST, .name = $2, .expects = $4)); }
	| TEST STRING '{' expects error '}'	{ yyerrok; }
	| error ';'				{ parser->depth = 0; yyerrok; }
	| error '}'				{ parser->depth = 0; yyerrok; }
	;

default_words
	: %empty					{ $$ = NODE(ast_decl, @$, .ingress = EFFECT_NONE, .egress = EFFECT_NONE); }
	| TRUST STRING					{ $$ = NODE(ast_decl, @$, .ingress = EFFECT_NONE, .egress = EFFECT_NONE, .value = $2); }
	| INGRESS effect				{ $$ = NODE(ast_decl, @$, .ingress = $2, .egress = EFFECT_NONE); }
	| EGRESS effect					{ $$ = NODE(ast_decl, @$, .ingress = EFFECT_NONE, .egress = $2); }
	| default_words ',' TRUST STRING		{ $$ = $1; $$->value = $4; }
	| default_words ',' INGRESS effect		{ $$ = $1; $$->ingress = $4; }
	| default_words ',' EGRESS effect		{ $$ = $1; $$->egress = $4; }
	;

effect
	: DENY	{ $$ = EFFECT_DENY; }
	| ALLOW	{ $$ = EFFECT_ALLOW; }
	| AUDIT	{ $$ = EFFECT_AUDIT; }
	;

service_items
	: %empty			{ $$ = NULL; }
	| service_items service_item	{ $$ = ast_append($1, $2); }
	;
service_item
	: WORKLOAD expr ';'		{ $$ = NODE(ast_item, @$, .kind = ITEM_WORKLOAD, .expr = whole(parser, $2)); }
	| ADDRESS addr_list ';'		{ $$ = NODE(ast_item, @$, .kind = ITEM_ADDRESS, .texts = $2); }
	| ACCOUNT value ';'		{ $$ = NODE(ast_item, @$, .kind = ITEM_ACCOUNT, .texts = text_node(parser, $2)); }
	| IDENTITY STRING ';'		{ $$ = NODE(ast_item, @$, .kind = ITEM_IDENTITY, .texts = text_node(parser, $2)); }
	| protocol range target ';'	{ $$ = NODE(ast_item, @$, .kind = ITEM_PORT, .protocol = $1, .ports = $2, .target = $3); }
	| SUBSET subset_defs ';'	{ $$ = $2; }
	| INGRESS effect ';'		{ $$ = NODE(ast_item, @$, .kind = ITEM_INGRESS, .effect = $2); }
	| error ';'			{ $$ = NULL; parser->depth = 0; yyerrok; }
	;
subset_defs
	: name '=' subset_def			{ $$ = NODE(ast_item, @$, .kind = ITEM_SUBSET, .expr = $3, .texts = text_node(parser, $1)); }
	| subset_defs ',' name '=' subset_def	{ $$ = ast_append($1, NODE(ast_item, @3, .kind = ITEM_SUBSET, .expr = $5, .texts = text_node(parser, $3))); }
	;
subset_def: expr { $$ = whole(parser, $1); } ;
protocol
	: TCP	{ $$ = "tcp"; }
	| UDP	{ $$ = "udp"; }
	| HTTP	{ $$ = "http"; }
	| GRPC	{ $$ = "grpc"; }
	;
target
	: %empty	{ $$ = -1; }
	| TO NUMBER	{ $$ = $2 < 0 ? 0 : $2; }
	;

external_items
	: %empty			{ $$ = NULL; }
	| external_items external_item	{ $$ = ast_append($1, $2); }
	;
external_item
	: CIDR addr_list addr_excepts ';'	{ $$ = NODE(ast_item, @$, .kind = ITEM_CIDR, .texts = $2, .except = $3); }
	| protocol range ';'			{ $$ = NODE(ast_item, @$, .kind = ITEM_PORT, .protocol = $1, .ports = $2, .target = -1); }
	| EGRESS effect ';'			{ $$ = NODE(ast_item, @$, .kind = ITEM_EGRESS, .effect = $2); }
	| error ';'				{ $$ = NULL; parser->depth = 0; yyerrok; }
	;

addr_list
	: ADDR			{ $$ = text_node(parser, $1); }
	| addr_list ',' ADDR	{ $$ = ast_append($1, text_node(parser, $3)); }
	;
addr_excepts
	: %empty		{ $$ = NULL; }
	| EXCEPT addr_list	{ $$ = $2; }
	;

mtls_scope
	: %empty		{ $$ = NULL; }
	| FOR NAMESPACE name	{ $$ = NODE(ast_ref, @$, .kind = REF_NAMESPACE, .name = $3); }
	| FOR qualified		{ $$ = NODE(ast_ref, @$, .kind = REF_NAME, .name = $2); }
	;

sources
	: ref_list excepts	{ $$ = NODE(ast_party, @$, .in = $1, .out = $2); }
	;
targets
	: ref_list excepts ports	{ $$ = NODE(ast_party, @$, .in = $1, .out = $2, .ports = $3); }
	;
excepts
	: %empty		{ $$ = NULL; }
	| EXCEPT ref_list	{ $$ = $2; }
	;
ref_list
	: ref			{ $$ = $1; }
	| ref_list ',' ref	{ $$ = ast_append($1, $3); }
	;
ref
	: qualified		{ $$ = NODE(ast_ref, @$, .kind = REF_NAME, .name = $1); }
	| NAMESPACE name	{ $$ = NODE(ast_ref, @$, .kind = REF_NAMESPACE, .name = $2); }
	| ANY			{ $$ = NODE(ast_ref, @$, .kind = REF_ANY); }
	| WORLD			{ $$ = NODE(ast_ref, @$, .kind = REF_WORLD); }
	| NODE_			{ $$ = NODE(ast_ref, @$, .kind = REF_NODE); }
	| ADDR			{ $$ = NODE(ast_ref, @$, .kind = REF_ADDRESS, .name = $1); }
	;
ports
	: %empty			{ $$ = NULL; }
	| PORT range			{ $$ = $2; }
	| PORT '{' range_list '}'	{ $$ = $3; }
	;
range
	: NUMBER		{ $$ = NODE(ast_range, @$, .lo = $1, .hi = $1); }
	| NUMBER DOTS NUMBER	{ $$ = NODE(ast_range, @$, .lo = $1, .hi = $3); }
	;
range_list
	: range			{ $$ = $1; }
	| range_list ',' range	{ $$ = ast_append($1, $3); }
	;

when_opt
	: %empty	{ $$ = NULL; }
	| WHEN expr	{ $$ = whole(parser, $2); }
	;
expr
	: term
	| expr OR term	{ $$ = deeper(parser, NODE(ast_expr, @$, .kind = EXPR_OR, .left = $1, .right = $3)); }
	;
term
	: factor
	| term AND factor	{ $$ = deeper(parser, NODE(ast_expr, @$, .kind = EXPR_AND, .left = $1, .right = $3)); }
	;
factor
	: atom
	| NOT factor		{ $$ = deeper(parser, NODE(ast_expr, @$, .kind = EXPR_NOT, .left = $2)); }
	| '(' expr ')'		{ $$ = $2; }
	;
atom
	: label EQ value		{ $$ = atom(parser, @$, $1, AST_EQ, text_node(parser, $3), NULL); }
	| label NE value		{ $$ = atom(parser, @$, $1, AST_NE, text_node(parser, $3), NULL); }
	| label EQ NUMBER		{ $$ = atom(parser, @$, $1, AST_EQ, NULL, NODE(ast_range, @3, .lo = $3, .hi = $3)); }
	| label NE NUMBER		{ $$ = atom(parser, @$, $1, AST_NE, NULL, NODE(ast_range, @3, .lo = $3, .hi = $3)); }
	| label IN '{' value_list '}'	{ $$ = atom(parser, @$, $1, AST_IN, $4, NULL); }
	| label IN '{' range_list '}'	{ $$ = atom(parser, @$, $1, AST_IN, NULL, $4); }
	| label IN range		{ $$ = atom(parser, @$, $1, AST_RANGE, NULL, $3); }
	| label LIKE STRING		{ $$ = atom(parser, @$, $1, AST_LIKE, text_node(parser, $3), NULL); }
	| label MATCHES STRING		{ $$ = atom(parser, @$, $1, AST_MATCHES, text_node(parser, $3), NULL); }
	| HAS label			{ $$ = atom(parser, @$, $2, AST_HAS, NULL, NULL); }
	| FIELD				{ $$ = atom(parser, @$, $1, AST_IS, NULL, NULL); }
	;
/* A field or a label: which, the check decides. */
label
	: name
	| FIELD
	| FIELD '[' STRING ']'	{ $$ = $1; $$.span = @$; $$.next = text_node(parser, $3); }
	;
value
	: name
	;
value_list
	: value			{ $$ = text_node(parser, $1); }
	| value_list ',' value	{ $$ = ast_append($1, text_node(parser, $3)); }
	;

from_opt
	: %empty	{ $$ = NULL; }
	| FROM sources	{ $$ = $2; }
	;
arms
	: %empty	{ $$ = NULL; }
	| arms arm	{ $$ = ast_append($1, $2); }
	;
arm
	: from_opt when_opt SPLIT per_connection splits ';'
		{ $$ = NODE(ast_arm, @$, .from = $1, .when = $2, .per_connection = $4, .splits = $5); }
	| STICKY BY SOURCE ';'	{ $$ = NODE(ast_arm, @$, .sticky = true); }
	| error ';'		{ $$ = NULL; parser->depth = 0; yyerrok; }
	;
per_connection
	: %empty		{ $$ = 0; }
	| PER CONNECTION	{ $$ = 1; }
	;
splits
	: split			{ $$ = $1; }
	| splits ',' split	{ $$ = ast_append($1, $3); }
	;
split
	: weight		{ $$ = NODE(ast_split, @$, .weight = $1); }
	| subset_name weight	{ $$ = NODE(ast_split, @$, .subset = $1, .weight = $2); }
	;
/* `per` begins `per connection`: it is no subset's name here without quotes. */
subset_name
	: word_but_per	{ $$ = text_node(parser, $1); }
	| STRING	{ $$ = text_node(parser, $1); }
	;
weight: NUMBER ;

through
	: %empty	{ $$ = 0; }
	| THROUGH ANY	{ $$ = 1; }
	;

expects
	: %empty		{ $$ = NULL; }
	| expects expect	{ $$ = ast_append($1, $2); }
	;
expect
	: EXPECT verdict_word ':' FROM sources TO targets with_opt ';'
		{ $$ = NODE(ast_expect, @$, .what = $2, .from = $5, .to = $7, .with = $8); }
	| EXPECT verdict_word BY name ':' FROM sources TO targets with_opt ';'
		{ $$ = NODE(ast_expect, @$, .what = $2, .by = $4, .from = $7, .to = $9, .with = $10); }
	| EXPECT SUBSET name ':' FROM sources TO targets with_opt ';'
		{ $$ = NODE(ast_expect, @$, .what = "subset", .by = $3, .from = $6, .to = $8, .with = $9); }
	| error ';'	{ $$ = NULL; parser->depth = 0; yyerrok; }
	;
verdict_word
	: ALLOW	{ $$ = "allow"; }
	| DENY	{ $$ = "deny"; }
	| AUDIT	{ $$ = "audit"; }
	;
with_opt
	: %empty	{ $$ = NULL; }
	| WITH withs	{ $$ = $2; }
	;
withs
	: with			{ $$ = $1; }
	| withs ',' with	{ $$ = ast_append($1, $3); }
	;
with
	: FIELD '=' STRING			{ $$ = NODE(ast_with, @$, .name = $1, .value = $3); }
	| FIELD '[' STRING ']' '=' STRING	{ $$ = NODE(ast_with, @$, .name = $1, .key = $3.text, .value = $6); }
	;

qualified_list
	: qualified			{ $$ = text_node(parser, $1); }
	| qualified_list ',' qualified	{ $$ = ast_append($1, text_node(parser, $3)); }
	;
qualified
	: name
	| name '/' name	{ $$ = (struct ast_text){.text = arena_printf(parser->arena, "%s/%s", $1.text, $3.text), .span = @$}; }
	;
name
	: word
	| STRING
	;
word
	: word_but_per
	| PER
	;
word_but_per
	: NAME
	| MESH | TRUST | INGRESS | EGRESS | DENY | ALLOW | AUDIT | SERVICE | EXTERNAL | IDENTITY | CIDR | GROUP
	| WORKLOAD | ADDRESS | ACCOUNT | TCP | UDP | HTTP | GRPC | SUBSET | MTLS | STRICT | PERMISSIVE | OFF | FOR
	| UNTIL | BECAUSE | PORT | ROUTE | SPLIT | CONNECTION | STICKY | BY | SOURCE | NEVER | THROUGH | TEST
	| EXPECT | WITH
	;

%%

/* What may come here, as the parser's tables have it (with lookahead correction: exactly that). */
struct expected {
	yysymbol_kind_t at[YYNTOKENS];
	int count;
	bool name;
};

static bool is_word(const char *name)
{
	return name[0] >= 'a' && name[0] <= 'z' && !strchr(name, ' ');
}

/* A word that is a name, too, where a name may come: listing all of them says less than "a name". */
static bool is_name(yysymbol_kind_t symbol)
{
	return symbol == YYSYMBOL_STRING || (symbol >= YYSYMBOL_MESH && symbol <= YYSYMBOL_WITH);
}

static void find_expected(const yypcontext_t *context, struct expected *ret_expected)
{
	struct expected all = {0}, *some = ret_expected;
	some->name = false;
	all.count = yypcontext_expected_tokens(context, all.at, YYNTOKENS);
	for (int i = 0; i < all.count; i++)
		some->name |= all.at[i] == YYSYMBOL_NAME;
	some->count = 0;
	for (int i = 0; i < all.count; i++)
		if (!some->name || !is_name(all.at[i]))
			some->at[some->count++] = all.at[i];
}

static const char *expected_list(struct parser *parser, const struct expected *expected)
{
	const char *list = "";
	for (int i = 0; i < expected->count; i++) {
		const char *name = yysymbol_name(expected->at[i]);
		bool is_quoted = is_word(name) && expected->at[i] > YYSYMBOL_BAD;
		list = arena_printf(parser->arena, "%s%s%s%s%s", list,
				    i == 0 ? "" : i + 1 == expected->count ? " or " : ", ", is_quoted ? "'" : "", name,
				    is_quoted ? "'" : "");
	}
	return list;
}

/* A misspelt word of the language: which of those that may come here was meant, or NULL. No other would do. */
static const char *word_meant(const char *got, const struct expected *expected)
{
	const char *words[YYNTOKENS];
	size_t count = 0;
	for (int i = 0; i < expected->count; i++)
		if (is_word(yysymbol_name(expected->at[i])))
			words[count++] = yysymbol_name(expected->at[i]);
	return diag_nearest(got, words, count);
}

/* One message, in the words of the language: what stands there and what could. */
static int yyreport_syntax_error(const yypcontext_t *context, void *scanner, struct parser *parser)
{
	enum { SHOWN = 16 };
	struct expected expected;
	(void)scanner;
	struct span span = *yypcontext_location(context);
	if (parser->complained) {
		parser->complained = false;
		return 0;
	}
	find_expected(context, &expected);
	yysymbol_kind_t got = yypcontext_token(context);
	if (!span.len)
		span = (struct span){span.file, span.offset ? span.offset - 1 : 0, 1};
	const char *text = parser->diags->sources->files.at[span.file].text + span.offset;
	const char *word = arena_copy(parser->arena, text, span.len < 40 ? span.len : 40);
	bool at_end = got == YYSYMBOL_YYEOF;
	struct diag *diag = diag_add(parser->diags, DIAG_SYNTAX, span, "%s%s%s", at_end ? "" : "'",
				     at_end ? "the text ends in the middle of a declaration" : word,
				     at_end ? "" : "' does not fit here");
	if (expected.count > 0 && expected.count <= SHOWN)
		diag->note = arena_printf(parser->arena, "expected %s%s", expected_list(parser, &expected),
					  expected.name && got >= YYSYMBOL_FROM && got <= YYSYMBOL_EXCEPT
						  ? "; a reserved word is a name only in quotes"
						  : "");
	if (got == YYSYMBOL_NAME) {
		diag->fix = word_meant(word, &expected);
		diag->fix_span = span;
	}
	return 0;
}
