/* Percent-encoding and queries. */
#include "piece.h"

#include <string.h>

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool
piece_is(struct piece p, const char *word)
{
	return p.len == strlen(word) && memcmp(p.at, word, p.len) == 0;
}

unsigned char
piece_decoded(const char *p, const char *end, size_t *used)
{
	*used = 1;
	if (*p == '%' && end - p >= 3 && hex_value(p[1]) >= 0 && hex_value(p[2]) >= 0) {
		*used = 3;
		return (unsigned char)(hex_value(p[1]) << 4 | hex_value(p[2]));
	}
	return (unsigned char)*p;
}

bool
piece_decodes_to(struct piece p, const char *word)
{
	const char *end = p.at + p.len;
	size_t used;

	for (const char *at = p.at; at < end; at += used)
		if (*word == '\0' || piece_decoded(at, end, &used) != (unsigned char)*word++)
			return false;
	return *word == '\0';
}

bool
piece_decode(struct piece p, bool plus, char *out, size_t size)
{
	const char *end = p.at + p.len;
	size_t n = 0, used;

	for (const char *at = p.at; at < end; at += used) {
		unsigned char c = piece_decoded(at, end, &used);

		if (c == '+' && used == 1 && plus)
			c = ' ';
		if (n + 1 >= size || c < 0x20 || c == 0x7f)
			return false;
		out[n++] = (char)c;
	}
	out[n] = '\0';
	return true;
}

bool
piece_parameter(const char **rest, struct piece *name, struct piece *value)
{
	const char *p = *rest, *end, *equals;

	if (p == NULL)
		return false;
	end = p + strcspn(p, "&");
	equals = memchr(p, '=', (size_t)(end - p));
	*name = (struct piece){p, (size_t)((equals != NULL ? equals : end) - p)};
	*value = equals != NULL ? (struct piece){equals + 1, (size_t)(end - equals - 1)}
				: (struct piece){end, 0};
	*rest = *end == '&' ? end + 1 : NULL;
	return true;
}
