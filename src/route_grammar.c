/* The grammar of repository names, tags and hosts. */
#include "route_grammar.h"

#include <string.h>

#include <arpa/inet.h>

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_lower(char c)
{
	return (c >= 'a' && c <= 'z') || is_digit(c);
}

static size_t
lower_run(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n && is_lower(s[i]))
		i++;
	return i;
}

/* ".", "_", "__" or any number of "-"; 0: none of them. */
static size_t
separator(const char *s, size_t n)
{
	size_t i = 0;

	if (n == 0)
		return 0;
	if (*s == '.')
		return 1;
	if (*s == '_')
		return n > 1 && s[1] == '_' ? 2 : 1;
	while (i < n && s[i] == '-')
		i++;
	return i;
}

static bool
is_component(const char *s, size_t n)
{
	size_t at = lower_run(s, n);

	if (at == 0)
		return false;
	while (at < n) {
		size_t gap = separator(s + at, n - at);
		size_t run = lower_run(s + at + gap, n - at - gap);

		if (gap == 0 || run == 0)
			return false;
		at += gap + run;
	}
	return true;
}

bool
route_is_name(const char *s, size_t n)
{
	const char *end = s + n, *slash;

	if (n > ROUTE_NAME_MAX)
		return false;
	for (; (slash = memchr(s, '/', (size_t)(end - s))) != NULL; s = slash + 1)
		if (!is_component(s, (size_t)(slash - s)))
			return false;
	return is_component(s, (size_t)(end - s));
}

static bool
is_tag_start(char c)
{
	return is_lower(c) || (c >= 'A' && c <= 'Z') || c == '_';
}

bool
route_is_tag(const char *s, size_t n)
{
	if (n == 0 || n > 128 || !is_tag_start(*s))
		return false;
	for (size_t i = 1; i < n; i++)
		if (!is_tag_start(s[i]) && s[i] != '.' && s[i] != '-')
			return false;
	return true;
}

static bool
is_label(const char *s, size_t n)
{
	if (n == 0 || n > 63 || *s == '-' || s[n - 1] == '-')
		return false;
	for (size_t i = 0; i < n; i++)
		if (!is_lower(s[i]) && s[i] != '-')
			return false;
	return true;
}

static bool
is_dns_name(const char *s, size_t n)
{
	const char *end = s + n, *dot;

	if (n > 255)
		return false;
	for (; (dot = memchr(s, '.', (size_t)(end - s))) != NULL; s = dot + 1)
		if (!is_label(s, (size_t)(dot - s)))
			return false;
	return is_label(s, (size_t)(end - s));
}

static bool
is_ipv6(const char *s, size_t n)
{
	struct in6_addr address;
	char text[INET6_ADDRSTRLEN];

	if (n < 2 || s[n - 1] != ']' || n - 2 >= sizeof(text))
		return false;
	memcpy(text, s + 1, n - 2);
	text[n - 2] = '\0';
	return strlen(text) == n - 2 && inet_pton(AF_INET6, text, &address) == 1;
}

static bool
is_port(const char *s, size_t n)
{
	unsigned port = 0;

	if (n == 0 || n > 5 || *s == '0')
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!is_digit(s[i]))
			return false;
		port = port * 10 + (unsigned)(s[i] - '0');
	}
	return port <= 65535;
}

size_t
route_port_at(const char *s, size_t n)
{
	size_t i = n;

	while (i > 0 && s[i - 1] != ':' && s[i - 1] != ']')
		i--;
	return i > 0 && s[i - 1] == ':' ? i - 1 : n;
}

bool
route_is_host(const char *s, size_t n)
{
	size_t colon = route_port_at(s, n);

	if (n == 0 || n > ROUTE_HOST_MAX)
		return false;
	if (colon < n && !is_port(s + colon + 1, n - colon - 1))
		return false;
	return *s == '[' ? is_ipv6(s, colon) : is_dns_name(s, colon);
}

bool
route_is_printable(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s <= ' ' || (unsigned char)*s > '~')
			return false;
	return true;
}
