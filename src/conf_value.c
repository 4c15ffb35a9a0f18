/* Reads, writes and describes values. A type is one row of `types`. */
#include "conf_value.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf_host.h"
#include "conf_units.h"
#include "log.h"
#include "network.h"
#include "xalloc.h"

typedef bool read_fn(
    const struct conf_option *o, const char *text, void *field, char wrong[CONF_WRONG_SIZE]);

static bool
say(char wrong[CONF_WRONG_SIZE], const char *text)
{
	snprintf(wrong, CONF_WRONG_SIZE, "%s", text);
	return false;
}

static bool
store_string(const char *text, void *field)
{
	char **string = field;

	free(*string);
	*string = xstrdup(text);
	return true;
}

static bool
read_string(const struct conf_option *o, const char *text, void *field, char wrong[CONF_WRONG_SIZE])
{
	(void)o;
	return *text == '\0' ? say(wrong, "is empty") : store_string(text, field);
}

static bool
read_checked(const char *text, void *field, char wrong[CONF_WRONG_SIZE], const char *why)
{
	return why != NULL ? say(wrong, why) : store_string(text, field);
}

static bool
read_address(
    const struct conf_option *o, const char *text, void *field, char wrong[CONF_WRONG_SIZE])
{
	(void)o;
	return read_checked(text, field, wrong, conf_check_address(text));
}

static bool
read_socket(
    const struct conf_option *o, const char *text, void *field, char wrong[CONF_WRONG_SIZE])
{
	(void)o;
	return read_checked(text, field, wrong, conf_check_socket(text));
}

static bool
read_host(const struct conf_option *o, const char *text, void *field, char wrong[CONF_WRONG_SIZE])
{
	(void)o;
	return read_checked(text, field, wrong, conf_check_host(text));
}

static bool
read_pattern(
    const struct conf_option *o, const char *text, void *field, char wrong[CONF_WRONG_SIZE])
{
	(void)o;
	return read_checked(text, field, wrong, conf_check_host_pattern(text));
}

static bool
read_regex(const struct conf_option *o, const char *text, void *field, char wrong[CONF_WRONG_SIZE])
{
	(void)o;
	if (*text == '\0')
		return say(wrong, "is empty");
	return conf_regex_groups(text, wrong, CONF_WRONG_SIZE) >= 0 && store_string(text, field);
}

static bool
read_word(const struct conf_option *o, const char *text, void *field, char wrong[CONF_WRONG_SIZE])
{
	for (const char *const *w = o->words; *w != NULL; w++)
		if (strcmp(*w, text) == 0)
			return store_string(text, field);
	return say(wrong, "is none of the words known here");
}

/* 1, 0; -1: neither. */
static int
truth(const char *text)
{
	return strcmp(text, "true") == 0 ? 1 : strcmp(text, "false") == 0 ? 0 : -1;
}

static bool
read_bool(const struct conf_option *o, const char *text, void *field, char wrong[CONF_WRONG_SIZE])
{
	(void)o;
	if (truth(text) < 0)
		return say(wrong, "is neither true nor false");
	*(bool *)field = truth(text) == 1;
	return true;
}

static bool
read_trust(const struct conf_option *o, const char *text, void *field, char wrong[CONF_WRONG_SIZE])
{
	(void)o;
	if (truth(text) < 0)
		return say(wrong, "is neither true nor false");
	*(int *)field = truth(text);
	return true;
}

static bool
in_limits(const struct conf_option *o, uint64_t value, const char *why, char wrong[CONF_WRONG_SIZE])
{
	if (why != NULL)
		return say(wrong, why);
	if (value < o->min)
		return say(wrong, "is too small");
	return value <= o->max || say(wrong, "is too large");
}

static bool
read_number(const struct conf_option *o, const char *text, void *field, char wrong[CONF_WRONG_SIZE])
{
	uint64_t value = 0;
	const char *why = conf_parse_number(text, &value);

	if (!in_limits(o, value, why, wrong))
		return false;
	*(unsigned *)field = (unsigned)value;
	return true;
}

static bool
read_network(
    const struct conf_option *o, const char *text, void *field, char wrong[CONF_WRONG_SIZE])
{
	struct network unused;

	(void)o;
	return read_checked(text, field, wrong, network_parse(text, &unused));
}

static bool
read_mode(const struct conf_option *o, const char *text, void *field, char wrong[CONF_WRONG_SIZE])
{
	size_t n = strlen(text);

	if (n < 1 || n > 5 || strspn(text, "01234567") != n)
		return say(wrong, "is no octal number");
	if (!in_limits(o, strtoul(text, NULL, 8), NULL, wrong))
		return false;
	*(unsigned *)field = (unsigned)strtoul(text, NULL, 8);
	return true;
}

static bool
read_u64(const struct conf_option *o, const char *text, void *field, char wrong[CONF_WRONG_SIZE])
{
	uint64_t value = 0;
	const char *why = o->type == CONF_DURATION ? conf_parse_duration(text, &value)
	    : o->type == CONF_RATE                 ? conf_parse_rate(text, &value)
						   : conf_parse_size(text, &value);

	if (!in_limits(o, value, why, wrong))
		return false;
	*(uint64_t *)field = value;
	return true;
}

static char *
write_string(const void *field)
{
	const char *const *string = field;

	return *string == NULL ? NULL : xstrdup(*string);
}

static char *
write_bool(const void *field)
{
	return xstrdup(*(const bool *)field ? "true" : "false");
}

static char *
write_trust(const void *field)
{
	int t = *(const int *)field;

	return t < 0 ? NULL : xstrdup(t > 0 ? "true" : "false");
}

static char *
write_number(const void *field)
{
	return xasprintf("%u", *(const unsigned *)field);
}

static char *
write_mode(const void *field)
{
	return xasprintf("%04o", *(const unsigned *)field);
}

static char *
format_mode(uint64_t value)
{
	return xasprintf("%04o", (unsigned)value);
}

static char *
write_size(const void *field)
{
	return conf_format_size(*(const uint64_t *)field);
}

static char *
write_rate(const void *field)
{
	return conf_format_rate(*(const uint64_t *)field);
}

static char *
write_duration(const void *field)
{
	return conf_format_duration(*(const uint64_t *)field);
}

static char *
format_number(uint64_t value)
{
	return xasprintf("%" PRIu64, value);
}

struct type {
	read_fn *read; /* NULL: not a scalar */
	char *(*write)(const void *field);
	char *(*limit)(uint64_t value); /* writes min and max; NULL: it has none */
	const char *expected;
};

#define NETWORK_EXPECTED "a network such as 10.0.0.0/8, fd00::/8 or 10.0.0.1, or unix"
#define SOCKET_EXPECTED \
	"an address such as 0.0.0.0:7000, [::1]:7000, :7000 or unix:/run/registry-cache/socket"

static const struct type types[] = {
    [CONF_STRING] = {read_string, write_string, NULL, "a name"},
    [CONF_PATH] = {read_string, write_string, NULL, "a path"},
    [CONF_WORD] = {read_word, write_string, NULL, NULL},
    [CONF_BOOL] = {read_bool, write_bool, NULL, "true or false"},
    [CONF_TRUST] = {read_trust, write_trust, NULL, "true or false"},
    [CONF_NUMBER] = {read_number, write_number, format_number, "a number"},
    [CONF_SIZE] = {read_u64, write_size, conf_format_size, "a size such as 1TB or 512MiB"},
    [CONF_RATE] = {read_u64, write_rate, conf_format_rate, "bytes a second such as 200MB/s"},
    [CONF_DURATION] = {read_u64, write_duration, conf_format_duration, "a duration such as 1m30s"},
    [CONF_ADDRESS] = {read_address, write_string, NULL,
	"an address such as 0.0.0.0:7000, [::1]:7000 or :7000"},
    [CONF_SOCKET] = {read_socket, write_string, NULL, SOCKET_EXPECTED},
    [CONF_SOCKETS] = {NULL, NULL, NULL, SOCKET_EXPECTED ", or a list of them"},
    [CONF_NETWORK] = {read_network, write_string, NULL, NETWORK_EXPECTED},
    [CONF_NETWORKS] = {NULL, NULL, NULL, "a list of networks such as [10.0.0.0/8, unix]"},
    [CONF_MODE] = {read_mode, write_mode, format_mode, "the mode of a file"},
    [CONF_HOST] = {read_host, write_string, NULL,
	"a host such as registry.example or registry.example:5000"},
    [CONF_HOST_PATTERN] = {read_pattern, write_string, NULL,
	"a host such as registry.example:5000 or $group1.registry.example"},
    [CONF_REGEX] = {read_regex, write_string, NULL, "a regular expression (PCRE2)"},
    [CONF_HOSTS] = {NULL, NULL, NULL,
	"a list of hosts such as [registry.example, registry.example:5000]"},
    [CONF_NAMES] = {NULL, NULL, NULL, "a list of names such as [hub, registry.example:5000]"},
    [CONF_RULES] = {NULL, NULL, NULL, "a list of rules"},
    [CONF_CERTIFICATES] = {NULL, NULL, NULL, "a list of certificates with their keys"},
    [CONF_REGISTRIES] = {NULL, NULL, NULL, "a map of registries by their names"},
};

bool
conf_is_scalar(const struct conf_option *o)
{
	return types[o->type].read != NULL;
}

bool
conf_value_read(
    const struct conf_option *o, const char *text, void *field, char wrong[CONF_WRONG_SIZE])
{
	return types[o->type].read(o, text, field, wrong);
}

void
conf_value_default(const struct conf_option *o, void *field)
{
	char wrong[CONF_WRONG_SIZE];

	if (o->type == CONF_TRUST)
		*(int *)field = -1;
	if (o->fallback != NULL && !conf_value_read(o, o->fallback, field, wrong))
		panic("the default of %s %s", o->path, wrong);
}

void
conf_value_free(const struct conf_option *o, void *field)
{
	if (types[o->type].write == write_string) {
		free(*(char **)field);
		*(char **)field = NULL;
	}
}

char *
conf_value_write(const struct conf_option *o, const void *field)
{
	return types[o->type].write(field);
}

static char *
expected_words(const char *const *words)
{
	char *text = xstrdup(words[0]);

	for (size_t i = 1; words[i] != NULL; i++) {
		char *longer =
		    xasprintf("%s%s%s", text, words[i + 1] == NULL ? " or " : ", ", words[i]);

		free(text);
		text = longer;
	}
	return text;
}

char *
conf_value_expected(const struct conf_option *o)
{
	const struct type *t = &types[o->type];
	char *min, *max, *text;

	if (o->type == CONF_WORD)
		return expected_words(o->words);
	if (t->limit == NULL)
		return xstrdup(t->expected);
	min = t->limit(o->min);
	max = t->limit(o->max);
	text = xasprintf(
	    "%s%s from %s to %s", t->expected, o->type == CONF_NUMBER ? "" : ",", min, max);
	free(min);
	free(max);
	return text;
}
