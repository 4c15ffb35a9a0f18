/* Basic credentials (RFC 7617) and the base64 that they are in (RFC 4648 section 4). */
#include "http_basic.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "xalloc.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

bool
http_is_scheme(const char *authorization, const char *scheme)
{
	size_t n = strlen(scheme);

	return authorization != NULL && strncasecmp(authorization, scheme, n) == 0 &&
	    authorization[n] == ' ';
}

/* Four characters to three bytes; how many of them count, 0: it is none. */
static unsigned
decode_group(const char *in, unsigned char out[3])
{
	unsigned pads = in[3] != '=' ? 0 : in[2] != '=' ? 1 : 2;
	uint32_t word = 0;

	for (unsigned i = 0; i < 4; i++) {
		const char *at = i >= 4 - pads ? alphabet : strchr(alphabet, in[i]);

		if (at == NULL || in[i] == '\0')
			return 0;
		word = word << 6 | (uint32_t)(at - alphabet);
	}
	if ((pads == 1 && (word & 0xff) != 0) || (pads == 2 && (word & 0xffff) != 0))
		return 0;
	for (unsigned i = 0; i < 3; i++)
		out[i] = (unsigned char)(word >> (16 - 8 * i));
	return 3 - pads;
}

/* One byte of "name:password". */
static bool
take(struct http_basic *out, char c, bool *in_password, size_t *n)
{
	size_t room = *in_password ? sizeof(out->password) : sizeof(out->name);

	if ((unsigned char)c < ' ' || c == 127)
		return false; /* RFC 7617 section 2: no control characters */
	if (c == ':' && !*in_password) {
		*in_password = true;
		*n = 0;
		return true;
	}
	if (*n + 1 >= room)
		return false;
	(*in_password ? out->password : out->name)[(*n)++] = c;
	return true;
}

bool
http_basic_read(const char *authorization, struct http_basic *out)
{
	const char *in;
	bool in_password = false, ended = false;
	size_t n = 0;

	memset(out, 0, sizeof(*out));
	if (!http_is_scheme(authorization, "Basic"))
		return false;
	in = authorization + strlen("Basic ");
	in += strspn(in, " ");
	if (*in == '\0' || strlen(in) % 4 != 0)
		return false;
	for (; *in != '\0'; in += 4) {
		unsigned char bytes[3];
		unsigned got = ended ? 0 : decode_group(in, bytes);

		if (got == 0)
			return false;
		ended = got < 3;
		for (unsigned i = 0; i < got; i++)
			if (!take(out, (char)bytes[i], &in_password, &n))
				return false;
	}
	return in_password;
}

/* The byte at `i` of "name:password". There is no such text in one piece, so that none is left
 * in freed memory. */
static uint32_t
byte_at(const char *name, size_t n, const char *password, size_t i)
{
	return (unsigned char)(i < n ? name[i] : i == n ? ':' : password[i - n - 1]);
}

char *
http_basic_write(const char *name, const char *password)
{
	size_t before = strlen(name), n = before + 1 + strlen(password);
	char *out = xcalloc(1, strlen("Basic ") + (n + 2) / 3 * 4 + 1);
	char *to = stpcpy(out, "Basic ");

	for (size_t i = 0; i < n; i += 3) {
		size_t left = n - i;
		uint32_t word = byte_at(name, before, password, i) << 16;

		word |= left > 1 ? byte_at(name, before, password, i + 1) << 8 : 0;
		word |= left > 2 ? byte_at(name, before, password, i + 2) : 0;
		for (size_t k = 0; k < 4; k++)
			*to++ = k > left ? '=' : alphabet[word >> (18 - 6 * k) & 63];
	}
	return out;
}
