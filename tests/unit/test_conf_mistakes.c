/* The configuration: every mistake is said, at its place, with what was expected. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/CUnit.h>

#include "conf.h"
#include "conf_trial.h"
#include "suites.h"
#include "xalloc.h"

/* --- mistakes --------------------------------------------------------------------------------- */

/* Each line of mistakes.expected is how a line of the messages begins. */
static void
all_mistakes_of_a_file_are_said_in_one_run_with_their_places(void)
{
	char *text = read_data("mistakes.yaml"), *expected = read_data("mistakes.expected");
	struct outcome o = parse(text);
	char *got_rest, *expected_rest;
	char *got = strtok_r(o.errors, "\n", &got_rest),
	     *want = strtok_r(expected, "\n", &expected_rest);

	CU_ASSERT_PTR_NULL(o.conf);
	while (got != NULL && want != NULL) {
		bool same = strncmp(got, "t:", 2) == 0 && strncmp(got + 2, want, strlen(want)) == 0;

		if (!same)
			fprintf(stderr, "got %s\nexpected %s\n", got, want);
		CU_ASSERT_TRUE(same);
		got = strtok_r(NULL, "\n", &got_rest);
		want = strtok_r(NULL, "\n", &expected_rest);
	}
	CU_ASSERT_PTR_NULL(got);
	CU_ASSERT_PTR_NULL(want);
	drop(&o);
	free(text);
	free(expected);
}

static void
unknown_keys_come_with_what_was_meant(void)
{
	refused(MINIMAL "log: {levle: info}\n",
	    "t:6:7: unknown key `levle`, expected one of path, level, syslog, format, access (did you mean "
	    "`level`?)\n");
	refused(MINIMAL "log: {LEVEL: info}\n",
	    "t:6:7: unknown key `LEVEL`, expected one of path, level, syslog, format, access (did you mean "
	    "`level`?)\n");
	refused(MINIMAL "log: {colour: red}\n",
	    "t:6:7: unknown key `colour`, expected one of path, level, syslog, format, access\n");
	refused(MINIMAL "gc.interval: 1m\n",
	    "t:6:1: unknown key `gc.interval`, expected one of dataPath, user, group, sandbox, server, metrics, "
	    "log, gc\n");
	refused(
	    MINIMAL "gc: {layers: {: 1}}\n", "t:6:14: unknown key ``, expected one of checkSHA, …");
	refused(SERVER "  upstreamRules: [{regex: a, host: b.example, 'x\"': 1}]\n",
	    "t:4:47: unknown key `x\"`, expected one of regex, host, registry, scheme, trusted\n");
}

static void
duplicate_keys_are_refused_at_every_level(void)
{
	refused(MINIMAL "dataPath: /d\n",
	    "t:6:1: duplicate key `dataPath`, first given at line 1, expected it once\n");
	refused(MINIMAL "gc: {disk: {maxSize: 1B, \"maxSize\": 2B}}\n",
	    "t:6:26: duplicate key `maxSize`, first given at line 6, expected it once\n");
	refused(MINIMAL "  registries:\n    a.example:\n    b.example:\n    a.example: {}\n",
	    "t:9:5: duplicate key `a.example`, first given at line 7, expected it once\n");
	refused(MINIMAL
	    "  registries: {a.example: {trusted: true, trusted: true, trusted: true}}\n",
	    "t:6:43: duplicate key `trusted`, first given at line 6, expected it once\n"
	    "t:6:58: duplicate key `trusted`, first given at line 6, expected it once\n");
	refused(MINIMAL "  upstreamRules:\n  - {regex: a, host: b, regex: c}\n",
	    "t:7:25: duplicate key `regex`, first given at line 7, expected it once\n");
}

static void
what_is_required_is_asked_for_where_it_belongs(void)
{
	refused("server: {address: ':1', defaultBackend: {host: h}}\n",
	    "t:1:1: dataPath: missing, expected a path\n");
	refused("dataPath: /c\nserver: {defaultBackend: {host: h}}\n",
	    "t:2:1: server.address: missing, expected an address such as 0.0.0.0:7000, [::1]:7000, "
	    ":7000 or unix:/run/registry-cache/socket, or a list of them\n");
	refused("dataPath: /c\nserver:\n",
	    "t:2:1: server.address: missing, expected an address such as 0.0.0.0:7000, [::1]:7000, "
	    ":7000 or unix:/run/registry-cache/socket, or a list of them\n"
	    "t:2:1: server: no upstream, expected defaultBackend.host, upstreamRules or "
	    "registries\n");
	refused("# nothing but\n\ndataPath: /c\n",
	    "t:3:1: server.address: missing, expected an address such as 0.0.0.0:7000, [::1]:7000, "
	    ":7000 or unix:/run/registry-cache/socket, or a list of them\n"
	    "t:3:1: server: no upstream, expected defaultBackend.host, upstreamRules or "
	    "registries\n");
	refused(SERVER "  upstreamRules: [{host: a.example}]\n",
	    "t:4:19: server.upstreamRules[0].regex: missing, expected a regular expression "
	    "(PCRE2)\n");
	refused(SERVER "  upstreamRules:\n  - regex: a\n",
	    "t:5:5: server.upstreamRules[0].host: missing, expected a host…");
}

/* A section that is no map at all is one mistake: nothing is said to be missing in it. */
static void
a_mistake_is_said_once(void)
{
	refused("dataPath: /c\nserver: 1\n", "t:2:9: server: a value, expected a map\n");
	refused("- a\n- b\n", "t:1:1: a list, expected a map with dataPath and server\n");
	refused("dataPath\n", "t:1:1: a value, expected a map with dataPath and server\n");
	refused(SERVER "  defaultBackend: []\n",
	    "t:4:19: server.defaultBackend: a list, expected a map\n");
	refused(SERVER "  registries: []\n",
	    "t:4:15: server.registries: a list, expected a map of registries by their names\n");
	refused(SERVER "  upstreamRules: {a: b}\n",
	    "t:4:18: server.upstreamRules: a map, expected a list of rules\n");
	refused(SERVER "  defaultBackend: {host: a b}\n",
	    "t:4:26: server.defaultBackend.host: `a b` has a character that no host has, expected "
	    "a host…");
}

static void
a_backend_may_name_a_registry_instead_of_a_host(void)
{
	struct conf *c = accepted(SERVER "  registries: {corp: {scheme: http}}\n"
					 "  upstreamRules: [{regex: a, registry: corp}]\n"
					 "  defaultBackend: {registry: corp}\n");

	CU_ASSERT_STRING_EQUAL(c->server.default_backend.registry, "corp");
	CU_ASSERT_PTR_NULL(c->server.default_backend.scheme);
	CU_ASSERT_STRING_EQUAL(c->server.rules[0].to.registry, "corp");
	CU_ASSERT_PTR_NULL(c->server.rules[0].to.scheme);
	conf_free(&c);
	refused(SERVER "  registries: {corp: }\n  defaultBackend: {registry: cron}\n",
	    "t:5:30: server.defaultBackend.registry: `cron` is not in server.registries, expected "
	    "one that is\n");
	refused(SERVER "  upstreamRules:\n  - {regex: a, registry: b}\n",
	    "t:5:26: server.upstreamRules[0].registry: `b` is not in server.registries, expected "
	    "one that is\n");
	refused(SERVER "  registries: {b: }\n  upstreamRules:\n"
		       "  - {regex: a, registry: b, host: c.example, scheme: http}\n",
	    "t:6:29: server.upstreamRules[0].host: given beside registry, expected in "
	    "server.registries\n"
	    "t:6:46: server.upstreamRules[0].scheme: given beside registry, expected in "
	    "server.registries\n");
}

static void
a_cache_without_upstream_is_refused(void)
{
	static const char missing[] = "t:2:1: server: no upstream, expected defaultBackend.host, "
				      "upstreamRules or registries\n";
	struct conf *c;

	refused(SERVER, missing);
	refused(SERVER "  upstreamRules: []\n", missing);
	refused(SERVER "  registries: {}\n  defaultBackend: {}\n", missing);
	refused(SERVER "  defaultBackend: {scheme: http}\n",
	    "t:4:3: server.defaultBackend.host: missing, expected the upstream's host\n");
	c = accepted(SERVER "  upstreamRules: [{regex: a, host: b.example}]\n");
	CU_ASSERT_PTR_NULL(c->server.default_backend.host);
	CU_ASSERT_PTR_NULL(c->server.default_backend.scheme);
	conf_free(&c);
	c = accepted(SERVER "  registries: {quay.io: }\n");
	CU_ASSERT_EQUAL(c->server.nregistries, 1);
	conf_free(&c);
}

static void
a_certificate_needs_its_key_and_a_key_its_certificate(void)
{
	refused(MINIMAL "  tls:\n    certPath: a\n",
	    "t:7:5: server.tls.certPath: given without server.tls.keyPath, expected both or "
	    "neither\n");
	refused(MINIMAL "  tls: {caPath: c, keyPath: k}\n",
	    "t:6:20: server.tls.keyPath: given without server.tls.certPath, expected both or "
	    "neither\n");
}

static void
rules_must_fit_their_regex(void)
{
	struct conf *c;

	refused(SERVER "  upstreamRules:\n  - regex: \"a(b\"\n    host: c.example\n",
	    "t:5:12: server.upstreamRules[0].regex: `a(b` is wrong at its character 4: "
	    "missing closing parenthesis, expected a regular expression (PCRE2)\n");
	refused(SERVER
	    "  upstreamRules:\n  - regex: a(?:b)(c)\n    host: $group1-$group2.example\n",
	    "t:6:11: server.upstreamRules[0].host: `$group2`, but the regex captures 1 group, "
	    "expected no higher number than that\n");
	refused(SERVER "  upstreamRules:\n  - {regex: a, host: $group10.example}\n",
	    "t:5:22: server.upstreamRules[0].host: `$group10.example` has a '$' that begins none "
	    "of "
	    "$group1 to $group9, expected a host…");
	refused(SERVER "  defaultBackend:\n    host: $group1.example\n",
	    "t:5:11: server.defaultBackend.host: `$group1.example` has a '$', which only hosts of "
	    "server.upstreamRules may have, expected a host…");
	c = accepted(SERVER "  upstreamRules:\n  - {regex: (a)(b)(c)(d)(e)(f)(g)(h)(i), host: "
			    "$group9.example:$group1}\n");
	CU_ASSERT_EQUAL(c->server.nrules, 1);
	conf_free(&c);
}

static void
what_yaml_has_besides_is_refused(void)
{
	refused("dataPath: &a /c\n" SERVER,
	    "t:1:11: anchors are not taken, expected the value alone\n…");
	refused(
	    MINIMAL "user: *nobody\n", "t:6:7: aliases are not taken, expected the value itself\n");
	refused(MINIMAL "user: !!str x\n", "t:6:7: tags are not taken, expected the value alone\n");
	refused(MINIMAL "gc: !x {}\n", "t:6:5: tags are not taken, expected the value alone\n");
	refused(MINIMAL "log: {<<: {level: info}}\n",
	    "t:6:7: merge keys are not taken, expected a key of its own\n");
	refused(MINIMAL "? [a, b]\n: c\n", "t:6:3: a list as a key, expected a plain word\n");
	refused(MINIMAL "? {a: b}\n: c\n", "t:6:3: a map as a key, expected a plain word\n");
	refused(MINIMAL "---\nuser: x\n", "t:6:1: a second document, expected one\n");
	refused(MINIMAL "...\n---\n[\n", "t:7:1: a second document, expected one\n");
}

static void
values_are_one_line_of_text(void)
{
	static const char wrong[] =
	    "a line break or control character in a value, expected one line of text\n";
	static const char *const escapes[] = {
	    "\\n", "\\0", "\\e", "\\x7f", "\\u0085", "\\u2028", "\\ufeff", "\\uffff"};
	struct conf *c;

	for (size_t i = 0; i < sizeof(escapes) / sizeof(*escapes); i++) {
		char *text = xasprintf(MINIMAL "user: \"a%sb\"\n", escapes[i]);
		char *line = xasprintf("t:6:7: %s", wrong);

		refused(text, line);
		free(text);
		free(line);
	}
	refused(MINIMAL "user: |\n  a\n  b\n",
	    "t:6:1: a line break or control character in a value, …");
	refused(
	    MINIMAL "\"us\\0er\": a\n", "t:6:1: a line break or control character in a value, …");
	c = accepted(MINIMAL "user: >-\n  a\n  b\n");
	CU_ASSERT_STRING_EQUAL(c->user, "a b");
	conf_free(&c);
}

static void
text_that_is_no_yaml_is_refused_at_its_place(void)
{
	refused("a: 'x\n", "t:1:5: single-quoted scalar without closing quote, expected YAML\n…");
	refused("a: [1\n", "t:2:1: flow sequence without a closing bracket, expected YAML\n…");
	refused(
	    "a: b: c\n", "t:1:5: invalid nested block mapping on the same line, expected YAML\n…");
	refused(
	    MINIMAL "user: @x\n", "t:6:7: plain scalar cannot start with '@', expected YAML\n…");
	refused("dataPath: /c\n\tuser: x\n", "t:1:11: …");
}

static void
text_that_is_no_text_is_refused_at_its_place(void)
{
	static const char nul[] = MINIMAL "user: a\0b\n";
	struct outcome o = parse_bytes(nul, sizeof(nul) - 1);

	CU_ASSERT_STRING_EQUAL(o.errors, "t:6:8: control character 0x00, expected a text file\n");
	CU_ASSERT_PTR_NULL(o.conf);
	drop(&o);
	refused("a: \xff\xfe\n", "t:1:4: byte 0xff is not UTF-8, expected a text file in UTF-8\n");
	refused(
	    "ä: x\nb: \xc3(\n", "t:2:4: byte 0xc3 is not UTF-8, expected a text file in UTF-8\n");
	refused("# äö \xed\xa0\x80\n",
	    "t:1:6: byte 0xed is not UTF-8, expected a text file in UTF-8\n");
	refused("a: \xc0\xaf\n", "t:1:4: byte 0xc0 is not UTF-8, expected a text file in UTF-8\n");
	refused("a: b\xe2\x82", "t:1:5: byte 0xe2 is not UTF-8, expected a text file in UTF-8\n");
	refused("a: \xf4\x90\x80\x80",
	    "t:1:4: byte 0xf4 is not UTF-8, expected a text file in UTF-8\n");
	refused("\x7f"
		"ELF",
	    "t:1:1: control character 0x7f, expected a text file\n");
}

static void
messages_show_no_control_characters_and_whole_letters(void)
{
	char *text = xasprintf(MINIMAL "log: {level: \"%063d\xc3\xa4xyz\"}\n", 0);
	struct outcome o = parse(text);
	char *shown =
	    xasprintf("t:6:14: log.level: `%063d` is none of the words known here, expected error, "
		      "warn, info, debug or trace\n",
		0);

	CU_ASSERT_STRING_EQUAL(o.errors, shown);
	drop(&o);
	free(shown);
	free(text);
}

static void
a_name_is_of_one_registry(void)
{
	struct conf *c = accepted(SERVER "  registries: {docker.io: , corp: {aliases: [c, \"r:5\"]}}\n");

	CU_ASSERT_STRING_EQUAL(c->server.registries[0].hosts[0], "registry-1.docker.io");
	CU_ASSERT_EQUAL(c->server.registries[1].naliases, 2);
	conf_free(&c);
	refused(SERVER "  registries: {docker.io: , index.docker.io: }\n",
	    "t:4:29: server.registries: `index.docker.io` is a name of `docker.io` too, expected "
	    "names that differ\n");
	refused(SERVER "  registries: {a.example: , b.example: {aliases: [c, a.example]}}\n",
	    "t:4:29: server.registries: `a.example` is a name of `a.example` too, expected names "
	    "that differ\n");
	refused(SERVER "  registries: {a.example: {aliases: [A.example]}}\n",
	    "t:4:38: server.registries: the name `A.example` has capitals, expected a name such as "
	    "docker.io or registry.example:5000\n");
	refused(SERVER "  registries: {a.example: {aliases: b}}\n",
	    "t:4:37: server.registries.a.example.aliases: a single value, expected a list of names "
	    "such as [hub, registry.example:5000]\n");
}

void
suite_conf_mistakes(void)
{
	CU_pSuite s = CU_add_suite("conf_mistakes", NULL, NULL);

#define TEST(f) CU_add_test(s, #f, f)
	TEST(all_mistakes_of_a_file_are_said_in_one_run_with_their_places);
	TEST(unknown_keys_come_with_what_was_meant);
	TEST(duplicate_keys_are_refused_at_every_level);
	TEST(what_is_required_is_asked_for_where_it_belongs);
	TEST(a_mistake_is_said_once);
	TEST(a_backend_may_name_a_registry_instead_of_a_host);
	TEST(a_name_is_of_one_registry);
	TEST(a_cache_without_upstream_is_refused);
	TEST(a_certificate_needs_its_key_and_a_key_its_certificate);
	TEST(rules_must_fit_their_regex);
	TEST(what_yaml_has_besides_is_refused);
	TEST(values_are_one_line_of_text);
	TEST(text_that_is_no_yaml_is_refused_at_its_place);
	TEST(text_that_is_no_text_is_refused_at_its_place);
	TEST(messages_show_no_control_characters_and_whole_letters);
#undef TEST
}
