/* Sizes, rates and durations: text to value and back. No floating point, every overflow is seen. */
#include "conf_units.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "xalloc.h"

struct unit {
	const char *name;
	uint64_t factor;
};

/* Largest first. "KB" and "K" are not among them: they mean 1000 to some and 1024 to others. */
static const struct unit sizes[] = {
    {"PiB", UINT64_C(1) << 50},
    {"PB", UINT64_C(1000000000000000)},
    {"TiB", UINT64_C(1) << 40},
    {"TB", UINT64_C(1000000000000)},
    {"GiB", UINT64_C(1) << 30},
    {"GB", UINT64_C(1000000000)},
    {"MiB", UINT64_C(1) << 20},
    {"MB", UINT64_C(1000000)},
    {"KiB", UINT64_C(1) << 10},
    {"kB", UINT64_C(1000)},
    {"B", 1},
};

static const struct unit durations[] = {
    {"d", UINT64_C(86400000)},
    {"h", UINT64_C(3600000)},
    {"m", UINT64_C(60000)},
    {"s", UINT64_C(1000)},
    {"ms", 1},
};

enum {
	SIZES = sizeof(sizes) / sizeof(sizes[0]),
	DURATIONS = sizeof(durations) / sizeof(durations[0])
};

static const char too_large[] = "is too large";

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Moves *text over the digits. */
static const char *
take_digits(const char **text, uint64_t *value)
{
	const char *s = *text;

	if (*s == '-')
		return "is negative";
	if (!is_digit(*s))
		return "does not begin with a digit";
	for (*value = 0; is_digit(*s); s++)
		if (__builtin_mul_overflow(*value, 10, value) ||
		    __builtin_add_overflow(*value, (uint64_t)(*s - '0'), value))
			return too_large;
	*text = s;
	return NULL;
}

const char *
conf_parse_number(const char *text, uint64_t *value)
{
	const char *wrong = take_digits(&text, value);

	if (wrong == NULL && *text != '\0')
		wrong = "is not a number";
	return wrong;
}

const char *
conf_parse_size(const char *text, uint64_t *bytes)
{
	const char *wrong = take_digits(&text, bytes);

	if (wrong != NULL || *text == '\0')
		return wrong;
	for (size_t i = 0; i < SIZES; i++)
		if (strcmp(text, sizes[i].name) == 0)
			return __builtin_mul_overflow(*bytes, sizes[i].factor, bytes) ? too_large
										      : NULL;
	return "has no unit that is known (B, kB, MB, GB, TB, PB, KiB, MiB, GiB, TiB, PiB)";
}

const char *
conf_parse_rate(const char *text, uint64_t *bytes)
{
	size_t n = strlen(text);
	char *size = xstrndup(text, n > 2 && strcmp(text + n - 2, "/s") == 0 ? n - 2 : n);
	const char *wrong = conf_parse_size(size, bytes);

	free(size);
	return wrong;
}

/* The place in `durations` of the unit that *text begins with, and moves over it; DURATIONS: none.
 */
static size_t
take_unit(const char **text)
{
	size_t n = 0;

	while ((*text)[n] != '\0' && !is_digit((*text)[n]))
		n++;
	for (size_t i = 0; i < DURATIONS; i++) {
		if (strlen(durations[i].name) == n && strncmp(*text, durations[i].name, n) == 0) {
			*text += n;
			return i;
		}
	}
	return DURATIONS;
}

const char *
conf_parse_duration(const char *text, uint64_t *ms)
{
	size_t next = 0; /* the largest unit that may still come */

	*ms = 0;
	do {
		uint64_t part;
		const char *wrong = take_digits(&text, &part);
		size_t unit;

		if (wrong != NULL)
			return wrong;
		if (*text == '\0')
			return "has no unit (d, h, m, s, ms)";
		unit = take_unit(&text);
		if (unit == DURATIONS)
			return "has no unit that is known (d, h, m, s, ms)";
		if (unit < next)
			return "has its units not from large to small, each once";
		next = unit + 1;
		if (__builtin_mul_overflow(part, durations[unit].factor, &part) ||
		    __builtin_add_overflow(*ms, part, ms))
			return too_large;
	} while (*text != '\0');
	return NULL;
}

char *
conf_format_size(uint64_t bytes)
{
	const struct unit *best = &sizes[SIZES - 1];

	if (bytes == 0)
		return xstrdup("0");
	for (size_t i = 0; i < SIZES; i++) /* the shortest number that is exact */
		if (bytes % sizes[i].factor == 0 && sizes[i].factor > best->factor)
			best = &sizes[i];
	return xasprintf("%" PRIu64 "%s", bytes / best->factor, best->name);
}

char *
conf_format_rate(uint64_t bytes)
{
	char *size = conf_format_size(bytes);
	char *rate = xasprintf("%s/s", size);

	free(size);
	return rate;
}

char *
conf_format_duration(uint64_t ms)
{
	char *text = xstrdup(ms == 0 ? "0s" : "");

	for (size_t i = 0; i < DURATIONS; i++) {
		uint64_t n = ms / durations[i].factor;
		char *longer;

		ms %= durations[i].factor;
		if (n == 0)
			continue;
		longer = xasprintf("%s%" PRIu64 "%s", text, n, durations[i].name);
		free(text);
		text = longer;
	}
	return text;
}
