/* The configuration: the documented example, every option, printing, values and their grammar. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/CUnit.h>

#include "buf.h"
#include "conf.h"
#include "conf_host.h"
#include "conf_table.h"
#include "conf_trial.h"
#include "conf_units.h"
#include "conf_value.h"
#include "suites.h"
#include "xalloc.h"

/* --- values ----------------------------------------------------------------------------------- */

static void
the_documented_example_loads_as_it_stands(void)
{
	char *path = data_path("design-example.yaml");
	struct conf *c = conf_load(path, stderr);

	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_STRING_EQUAL(c->data_path, "/cache/");
	CU_ASSERT_EQUAL(c->server.workers, 10);
	CU_ASSERT_EQUAL(c->server.streamers, 100);
	CU_ASSERT_EQUAL(c->server.upstream_timeout, 60000);
	CU_ASSERT_EQUAL(c->server.timeout, 60000);
	CU_ASSERT_EQUAL_FATAL(c->server.addresses.n, 1);
	CU_ASSERT_STRING_EQUAL(c->server.addresses.items[0], "0.0.0.0:7000");
	CU_ASSERT_STRING_EQUAL(c->server.default_backend.host, "myregistry.com");
	CU_ASSERT_STRING_EQUAL(c->server.default_backend.scheme, "https");
	CU_ASSERT_EQUAL_FATAL(c->server.nrules, 1);
	CU_ASSERT_STRING_EQUAL(c->server.rules[0].regex, "^(.+).dragonfly-local.c3.zone:7000$");
	CU_ASSERT_STRING_EQUAL(c->server.rules[0].to.host, "$group1.myregistry.com");
	CU_ASSERT_STRING_EQUAL(c->server.rules[0].to.scheme, "https");
	CU_ASSERT_EQUAL(c->server.rules[0].to.trusted, -1);
	CU_ASSERT_EQUAL(c->server.rules[0].line, 12);
	CU_ASSERT_EQUAL(c->server.rules[0].column, 12);
	CU_ASSERT_EQUAL(c->server.nregistries, 0);
	CU_ASSERT_STRING_EQUAL(c->server.tls.cert_path, "./config/localhost.crt");
	CU_ASSERT_STRING_EQUAL(c->server.tls.key_path, "./config/localhost.key");
	CU_ASSERT_STRING_EQUAL(c->server.tls.ca_path, "./config/ca.crt");
	CU_ASSERT_STRING_EQUAL(c->metrics.address, "0.0.0.0:3000");
	CU_ASSERT_EQUAL(c->gc.disk_max_size, 1000000000000);
	CU_ASSERT_EQUAL(c->gc.interval, 20 * 60000);
	CU_ASSERT_TRUE(c->gc.layers.check_sha);
	CU_ASSERT_EQUAL(c->gc.layers.max_age, 3600000);
	CU_ASSERT_EQUAL(c->gc.layers.max_unused, 30 * 60000);
	CU_ASSERT_EQUAL(c->gc.manifests.max_age, 10 * 60000);
	CU_ASSERT_EQUAL(c->gc.manifests.max_unused, 5 * 60000);
	conf_free(&c);
	CU_ASSERT_PTR_NULL(c);
	conf_free(&c);
	free(path);
}

static void
three_lines_suffice_and_the_rest_has_defaults(void)
{
	struct conf *c = accepted("dataPath: /c\n"
				  "server: {address: \"127.0.0.1:0\",\n"
				  "  defaultBackend: {host: registry.example}}\n");

	CU_ASSERT_PTR_NULL(c->user);
	CU_ASSERT_EQUAL(c->server.workers, 10);
	CU_ASSERT_EQUAL(c->server.streamers, 0);
	CU_ASSERT(c->server.listeners >= 1 && c->server.listeners <= 64);
	CU_ASSERT_EQUAL(c->server.connect_timeout, 10000);
	CU_ASSERT_EQUAL(c->server.first_byte_timeout, 10000);
	CU_ASSERT_EQUAL(c->server.drain_timeout, 30000);
	CU_ASSERT_EQUAL(c->server.check_grace, 0);
	CU_ASSERT_EQUAL(c->server.heartbeat_timeout, 10000);
	CU_ASSERT_EQUAL(c->server.low_speed, 1024);
	CU_ASSERT_EQUAL(c->server.max_head, 131072);
	CU_ASSERT_EQUAL(c->server.max_connections, 0);
	CU_ASSERT_EQUAL(c->server.max_connections_per_address, 0);
	CU_ASSERT_FALSE(c->server.read_only);
	CU_ASSERT_FALSE(c->server.allow_private_redirects);
	CU_ASSERT_TRUE(c->server.pass_ranges);
	CU_ASSERT_STRING_EQUAL(c->server.default_backend.scheme, "https");
	CU_ASSERT_EQUAL(c->server.default_backend.trusted, -1);
	CU_ASSERT_PTR_NULL(c->server.tls.cert_path);
	CU_ASSERT_PTR_NULL(c->metrics.address);
	CU_ASSERT_PTR_NULL(c->log.path);
	CU_ASSERT_STRING_EQUAL(c->log.level, "info");
	CU_ASSERT_TRUE(c->log.access);
	CU_ASSERT_EQUAL(c->gc.disk_max_size, 0);
	CU_ASSERT_EQUAL(c->gc.disk_min_free, 0);
	CU_ASSERT_EQUAL(c->gc.interval, 20 * 60000);
	CU_ASSERT_FALSE(c->gc.layers.check_sha);
	CU_ASSERT_EQUAL(c->gc.layers.check_interval, 86400000);
	CU_ASSERT_EQUAL(c->gc.layers.check_rate, 200000000);
	CU_ASSERT_EQUAL(c->gc.layers.max_age, 0);
	CU_ASSERT_EQUAL(c->gc.manifests.max_unused, 0);
	conf_free(&c);
}

/* A row of the table that reads into a wrong field, or none, shows here. */
static void
every_option_can_be_given_and_changes_its_own_field(void)
{
	char *text = read_data("every-option.yaml");
	struct conf *given = accepted(text), *minimal = accepted(MINIMAL);

	for (size_t i = 0; i < conf_table.n; i++) {
		const struct conf_option *o = &conf_table.rows[i];
		char *a, *b;

		if (!conf_is_scalar(o) ||
		    strcmp(o->path, "server.defaultBackend.registry") == 0) /* instead of host */
			continue;
		a = conf_value_write(o, (const char *)given + o->offset);
		b = conf_value_write(o, (const char *)minimal + o->offset);
		if (a == NULL || (b != NULL && strcmp(a, b) == 0))
			fprintf(stderr, "%s is not given in every-option.yaml\n", o->path);
		CU_ASSERT_PTR_NOT_NULL_FATAL(a);
		CU_ASSERT_TRUE(b == NULL || strcmp(a, b) != 0);
		free(a);
		free(b);
	}
	CU_ASSERT_STRING_EQUAL(given->data_path, "/srv/cache of \"ours\"/ä\\b");
	CU_ASSERT_STRING_EQUAL(given->server.tls.ca_path, "ca's.crt");
	CU_ASSERT_EQUAL(given->server.connect_timeout, 1500);
	CU_ASSERT_EQUAL(given->server.default_backend.trusted, 0);
	CU_ASSERT_EQUAL(given->gc.disk_max_size, 512 << 20);
	CU_ASSERT_EQUAL(given->gc.manifests.max_age, 86400000 + 3600000 + 60000 + 1000 + 1);
	conf_free(&given);
	conf_free(&minimal);
	free(text);
}

static void
rules_and_registries_are_read_in_their_order(void)
{
	char *text = read_data("every-option.yaml");
	struct conf *c = accepted(text);
	const struct conf_registry *r = c->server.registries;

	CU_ASSERT_EQUAL_FATAL(c->server.nrules, 3);
	CU_ASSERT_STRING_EQUAL(c->server.rules[0].regex, "^(.+)\\.(\\w+)\\.cache:7000$");
	CU_ASSERT_STRING_EQUAL(c->server.rules[0].to.host, "$group1.registry.example:5000");
	CU_ASSERT_EQUAL(c->server.rules[0].to.trusted, 1);
	CU_ASSERT_STRING_EQUAL(c->server.rules[1].regex, "^\\d+$");
	CU_ASSERT_STRING_EQUAL(c->server.rules[1].to.scheme, "https");
	CU_ASSERT_EQUAL_FATAL(c->server.nregistries, 5);
	CU_ASSERT_STRING_EQUAL(r[0].name, "docker.io");
	CU_ASSERT_EQUAL_FATAL(r[0].nhosts, 1);
	CU_ASSERT_STRING_EQUAL(r[0].hosts[0], "registry-1.docker.io");
	CU_ASSERT_EQUAL_FATAL(r[0].naliases, 2);
	CU_ASSERT_STRING_EQUAL(r[0].aliases[1], "hub.example:443");
	CU_ASSERT_TRUE(r[0].library);
	CU_ASSERT_EQUAL(r[1].naliases, 0);
	CU_ASSERT_STRING_EQUAL(r[1].name, "quay.io");
	CU_ASSERT_EQUAL_FATAL(r[1].nhosts, 1);
	CU_ASSERT_STRING_EQUAL(r[1].hosts[0], "quay.io");
	CU_ASSERT_STRING_EQUAL(r[1].scheme, "https");
	CU_ASSERT_EQUAL(r[1].trusted, -1);
	CU_ASSERT_STRING_EQUAL(r[2].hosts[0], "ghcr.io");
	CU_ASSERT_STRING_EQUAL(r[3].name, "localhost:5000");
	CU_ASSERT_EQUAL(r[3].trusted, 0);
	CU_ASSERT_EQUAL_FATAL(r[4].nhosts, 2);
	CU_ASSERT_STRING_EQUAL(r[4].hosts[1], "registry-b.corp.example:5000");
	CU_ASSERT_STRING_EQUAL(r[4].scheme, "http");
	CU_ASSERT_STRING_EQUAL(r[4].ca_path, "/etc/ssl/corp.pem");
	CU_ASSERT_STRING_EQUAL(r[4].realm, "login.example:8443");
	CU_ASSERT_STRING_EQUAL(r[4].credentials, "/etc/registry-cache/corp");
	CU_ASSERT_EQUAL(r[4].trusted, 1);
	conf_free(&c);
	free(text);
}

static void
what_is_printed_loads_back_to_the_same(void)
{
	static const char *const names[] = {"design-example.yaml", "every-option.yaml"};
	static const char *const texts[] = {MINIMAL, SERVER "  registries: {quay.io: {}}\n",
	    SERVER "  upstreamRules: [{regex: a, host: b.example}]\n"};
	struct conf *c;

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		c = accepted(texts[i]);
		CU_ASSERT_TRUE(survives_printing(c));
		conf_free(&c);
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char *text = read_data(names[i]);

		c = accepted(text);
		CU_ASSERT_TRUE(survives_printing(c));
		conf_free(&c);
		free(text);
	}
}

static void
what_is_printed_names_every_option(void)
{
	char *source = read_data("every-option.yaml");
	struct conf *c = accepted(source);
	char *text = print(c);

	for (size_t i = 0; i < conf_table.n; i++) {
		const char *dot = strrchr(conf_table.rows[i].path, '.');
		char *key = xasprintf("%s:", dot == NULL ? conf_table.rows[i].path : dot + 1);

		CU_ASSERT_PTR_NOT_NULL(strstr(text, key));
		free(key);
	}
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "    checkRate: 100MB/s\n"));
	CU_ASSERT_PTR_NOT_NULL(
	    strstr(text, "  - regex: \"^\\\\d+$\"\n    host: \"[2001:db8::1]:443\"\n"));
	free(text);
	free(source);
	conf_free(&c);
}

static void
sections_without_entries_are_empty_ones(void)
{
	struct conf *c = accepted(MINIMAL "  tls:\n  registries:\n  upstreamRules:\n"
					  "metrics: {}\nlog:\n  # level: debug\ngc:\n  disk: ~\n");

	CU_ASSERT_PTR_NULL(c->server.tls.cert_path);
	CU_ASSERT_EQUAL(c->server.nrules, 0);
	CU_ASSERT_STRING_EQUAL(c->log.level, "info");
	conf_free(&c);
}

static void
line_ends_of_other_systems_and_a_byte_order_mark_are_taken(void)
{
	struct conf *c = accepted("\xef\xbb\xbf"
				  "dataPath: /c\r\nserver:\r\n  address: :7000\r\n"
				  "  defaultBackend: {host: r.example}\r\n");

	CU_ASSERT_STRING_EQUAL(c->data_path, "/c");
	CU_ASSERT_STRING_EQUAL(c->server.addresses.items[0], ":7000");
	conf_free(&c);
	refused("\xef\xbb\xbf" MINIMAL "usr: x\n", "t:6:1: unknown key `usr`, …");
	refused("\xef\xbb\xbfusr: x\r\n\r\n  \x02",
	    "t:3:3: control character 0x02, expected a text file\n");
}

static void
quoted_words_are_text(void)
{
	struct conf *c = accepted(MINIMAL "user: \"null\"\nlog: {path: '~', level: \"debug\"}\n");

	CU_ASSERT_STRING_EQUAL(c->user, "null");
	CU_ASSERT_STRING_EQUAL(c->log.path, "~");
	CU_ASSERT_STRING_EQUAL(c->log.level, "debug");
	CU_ASSERT_TRUE(survives_printing(c));
	conf_free(&c);
}

static void
quotes_and_escapes_are_undone(void)
{
	struct buf b = {0};
	struct conf *c = accepted(MINIMAL "user: 'it''s'\nlog: {path: \"\\x41\\u00e4\\\"\\\\\"}\n");

	CU_ASSERT_STRING_EQUAL(c->user, "it's");
	CU_ASSERT_STRING_EQUAL(c->log.path, "Aä\"\\");
	conf_free(&c);
	buf_printf(&b, "%suser: '%0200d'\n", MINIMAL, 0);
	for (size_t i = buf_len(&b) - 202; i < buf_len(&b) - 2; i++)
		buf_data(&b)[i] = '\'';
	c = accepted((const char *)buf_data(&b));
	CU_ASSERT_EQUAL(strlen(c->user), 100);
	CU_ASSERT_EQUAL(strspn(c->user, "'"), 100);
	CU_ASSERT_TRUE(survives_printing(c));
	conf_free(&c);
	buf_free(&b);
	refused(
	    MINIMAL "user: 'a\n  b'\n", "t:6:7: a line break or control character in a value, …");
}

/* --- units ------------------------------------------------------------------------------------ */

static void
sizes_have_decimal_and_binary_units(void)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {{"0", 0}, {"1", 1}, {"4096", 4096}, {"7B", 7}, {"2kB", 2000}, {"2KiB", 2048},
	    {"3MB", 3000000}, {"3MiB", 3145728}, {"1GB", 1000000000}, {"1GiB", 1073741824},
	    {"1TB", 1000000000000}, {"1TiB", 1099511627776}, {"1PB", 1000000000000000},
	    {"1PiB", 1125899906842624}, {"18446744073709551615", UINT64_MAX},
	    {"16383PiB", UINT64_C(16383) << 50}};
	static const char *const bad[] = {"", "B", "-1", "+1", "1 TB", " 1", "1TB ", "1.5TB", "1tb",
	    "1K", "1KB", "1T", "1TBB", "0x10", "18446744073709551616", "16384PiB",
	    "99999999999999999999999999", "1MB/s", "1e3"};
	uint64_t bytes;

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		CU_ASSERT_PTR_NULL(conf_parse_size(good[i].text, &bytes));
		CU_ASSERT_EQUAL(bytes, good[i].bytes);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CU_ASSERT_PTR_NOT_NULL(conf_parse_size(bad[i], &bytes));
	CU_ASSERT_PTR_NULL(conf_parse_rate("200MB/s", &bytes));
	CU_ASSERT_EQUAL(bytes, 200000000);
	CU_ASSERT_PTR_NULL(conf_parse_rate("1KiB", &bytes));
	CU_ASSERT_EQUAL(bytes, 1024);
	CU_ASSERT_PTR_NOT_NULL(conf_parse_rate("/s", &bytes));
	CU_ASSERT_PTR_NOT_NULL(conf_parse_rate("1MB/h", &bytes));
}

static void
durations_need_units(void)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} good[] = {{"0s", 0}, {"500ms", 500}, {"1m30s", 90000}, {"24h", 86400000},
	    {"2d", 172800000}, {"90m", 5400000}, {"1d2h3m4s5ms", 93784005},
	    {"18446744073709551615ms", UINT64_MAX}};
	static const char *const bad[] = {"", "0", "60", "s", "-1s", "1.5h", "1 s", "1s ", "1S",
	    "1min", "30s1m", "1s1s", "1m30", "1sm", "1ms1s", "18446744073709551616ms",
	    "213503982335d", "213503982334d24h", "1w"};
	uint64_t ms;

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		CU_ASSERT_PTR_NULL(conf_parse_duration(good[i].text, &ms));
		CU_ASSERT_EQUAL(ms, good[i].ms);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CU_ASSERT_PTR_NOT_NULL(conf_parse_duration(bad[i], &ms));
	refused(MINIMAL "gc: {interval: 20}\n",
	    "t:6:16: gc.interval: `20` has no unit (d, h, m, s, ms), "
	    "expected a duration such as 1m30s, from 100ms to 365d\n");
}

static void
values_with_units_are_written_exactly(void)
{
	uint64_t state = 20240229;

	for (unsigned i = 0; i < 20000; i++) {
		uint64_t value = random_next(&state) >> (random_next(&state) % 64),
			 back = value + 1;
		char *size = conf_format_size(value), *rate = conf_format_rate(value);
		char *duration = conf_format_duration(value);

		CU_ASSERT_PTR_NULL(conf_parse_size(size, &back));
		CU_ASSERT_EQUAL(back, value);
		CU_ASSERT_PTR_NULL(conf_parse_rate(rate, &back));
		CU_ASSERT_EQUAL(back, value);
		CU_ASSERT_PTR_NULL(conf_parse_duration(duration, &back));
		CU_ASSERT_EQUAL(back, value);
		free(size);
		free(rate);
		free(duration);
	}
}

static void
numbers_have_limits(void)
{
	struct conf *c;

	refused(MINIMAL "  workers: 4097\n",
	    "t:6:12: server.workers: `4097` is too large, expected a number from 1 to 4096\n");
	refused(MINIMAL "  workers: 4294967297\n",
	    "t:6:12: server.workers: `4294967297` is too large, …");
	refused(MINIMAL "  listeners: 65\n", "t:6:14: server.listeners: `65` is too large, …");
	refused(MINIMAL "  maxHead: 8191\n",
	    "t:6:12: server.maxHead: `8191` is too small, expected a size such as "
	    "1TB or 512MiB, from 8KiB to 1MiB\n");
	refused(MINIMAL "  workers: 1x\n", "t:6:12: server.workers: `1x` is not a number, …");
	refused(
	    MINIMAL "  workers: ''\n", "t:6:12: server.workers: `` does not begin with a digit, …");
	c = accepted(MINIMAL "  workers: 4096\n  maxHead: 8KiB\n  listeners: 64\n");
	CU_ASSERT_EQUAL(c->server.workers, 4096);
	CU_ASSERT_EQUAL(c->server.max_head, 8192);
	CU_ASSERT_EQUAL(c->server.listeners, 64);
	conf_free(&c);
}

/* --- hosts and addresses ---------------------------------------------------------------------- */

typedef const char *check_fn(const char *text);

static void
all_right(const char *const *texts, size_t n, check_fn *check)
{
	for (size_t i = 0; i < n; i++)
		CU_ASSERT_PTR_NULL(check(texts[i]));
}

static void
all_wrong(const char *const *texts, size_t n, check_fn *check)
{
	for (size_t i = 0; i < n; i++)
		CU_ASSERT_PTR_NOT_NULL(check(texts[i]));
}

static void
hosts_and_addresses_follow_their_grammar(void)
{
	static const char *const hosts[] = {"a", "registry.example", "registry.example:5000",
	    "10.0.0.1:80", "[::1]", "[2001:db8::1]:443", "a-b_c.d", "1a.2b", "x.y:65535"};
	static const char *const no_hosts[] = {"", ".", "a.", ".a", "a..b", "-a", "a-",
	    "a:", ":5000", "a:0", "a:65536", "a:b", "a:1:2", "::1", "[::1", "[]", "[::g]", "[::1]5",
	    "[::1]:", "https://a", "a/b", "a b", "ä.de", "10.0.0.256", "10.0.1", "a:000001",
	    "user@a", "$group1"};
	static const char *const patterns[] = {
	    "$group1", "$group1.example:5000", "a-$group9.b", "a:$group2", "$group1$group2"};
	static const char *const no_patterns[] = {"$", "$group", "$group0", "$group12", "$GROUP1",
	    "${group1}", "$1.a", "-$group1", "$group1..a", "$group1/x"};
	static const char *const addresses[] = {
	    ":7000", "0.0.0.0:7000", "[::1]:7000", "[::]:0", "localhost:1", "127.0.0.1:0"};
	static const char *const no_addresses[] = {"", ":", "7000", "localhost", "a:", "[::1]",
	    "::1:7000", "*:80", "1.2.3:80", ":65536", ":-1", ":+1", ": 1", "http://a:80"};

	all_right(hosts, sizeof(hosts) / sizeof(*hosts), conf_check_host);
	all_right(hosts, sizeof(hosts) / sizeof(*hosts), conf_check_host_pattern);
	all_wrong(no_hosts, sizeof(no_hosts) / sizeof(*no_hosts), conf_check_host);
	all_right(patterns, sizeof(patterns) / sizeof(*patterns), conf_check_host_pattern);
	all_wrong(patterns, sizeof(patterns) / sizeof(*patterns), conf_check_host);
	all_wrong(no_patterns, sizeof(no_patterns) / sizeof(*no_patterns), conf_check_host_pattern);
	all_right(addresses, sizeof(addresses) / sizeof(*addresses), conf_check_address);
	all_wrong(no_addresses, sizeof(no_addresses) / sizeof(*no_addresses), conf_check_address);
}

/* --- the manual ------------------------------------------------------------------------------- */

static bool
has_item(const char *text, const char *prefix, const char *path)
{
	char *item = xasprintf("\n.It Cm %s%s\n", prefix, path);
	bool has = strstr(text, item) != NULL;

	free(item);
	return has;
}

static void
the_manual_lists_every_option(void)
{
	char *text = NULL, *rest;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	conf_print_mdoc(f);
	fclose(f);
	for (size_t i = 0; i < conf_table.n; i++)
		CU_ASSERT_TRUE(has_item(text, "", conf_table.rows[i].path));
	for (size_t i = 0; i < conf_rule_table.n; i++)
		CU_ASSERT_TRUE(
		    has_item(text, "server.upstreamRules[].", conf_rule_table.rows[i].path));
	for (size_t i = 0; i < conf_registry_table.n; i++)
		CU_ASSERT_TRUE(
		    has_item(text, "server.registries.NAME.", conf_registry_table.rows[i].path));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "the default is 10."));
	for (char *line = strtok_r(text, "\n", &rest); line != NULL;
	     line = strtok_r(NULL, "\n", &rest)) {
		CU_ASSERT(strlen(line) <= 80 && *line != '\'');
		CU_ASSERT(*line != '.' || strncmp(line, ".It Cm ", 7) == 0 ||
		    strncmp(line, ".Bl ", 4) == 0 || strcmp(line, ".El") == 0);
	}
	free(text);
}

void
suite_conf(void)
{
	CU_pSuite s = CU_add_suite("conf", NULL, NULL);

#define TEST(f) CU_add_test(s, #f, f)
	TEST(the_documented_example_loads_as_it_stands);
	TEST(three_lines_suffice_and_the_rest_has_defaults);
	TEST(every_option_can_be_given_and_changes_its_own_field);
	TEST(rules_and_registries_are_read_in_their_order);
	TEST(what_is_printed_loads_back_to_the_same);
	TEST(what_is_printed_names_every_option);
	TEST(sections_without_entries_are_empty_ones);
	TEST(line_ends_of_other_systems_and_a_byte_order_mark_are_taken);
	TEST(quoted_words_are_text);
	TEST(quotes_and_escapes_are_undone);
	TEST(sizes_have_decimal_and_binary_units);
	TEST(durations_need_units);
	TEST(values_with_units_are_written_exactly);
	TEST(numbers_have_limits);
	TEST(hosts_and_addresses_follow_their_grammar);
	TEST(the_manual_lists_every_option);
#undef TEST
}
