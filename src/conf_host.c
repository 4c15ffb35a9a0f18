/* Checks hosts, addresses and regexes. Nothing is looked up: a name that does not resolve now may
 * do so later. */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "conf_host.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include <pcre2.h>

#include "conf_units.h"
#include "xalloc.h"

enum { HOST_MAX = 253, LABEL_MAX = 63 };

static const char group[] = "$group";

static bool
is_label_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	    c == '-' || c == '_';
}

static const char *
check_name(const char *s, size_t len)
{
	size_t label = 0;

	if (len > HOST_MAX)
		return "has a host of more than 253 characters";
	for (size_t i = 0; i <= len; i++) {
		if (i < len && is_label_char(s[i])) {
			if (++label > LABEL_MAX)
				return "has a part of more than 63 characters";
			continue;
		}
		if (i < len && s[i] != '.')
			return "has a character that no host has";
		if (label == 0)
			return "has an empty part";
		if (s[i - 1] == '-' || s[i - label] == '-')
			return "has a part that begins or ends with '-'";
		label = 0;
	}
	return NULL;
}

/* What ends in a number is an address of four numbers, or a slip. */
static const char *
check_v4(const char *s, size_t len)
{
	char *host = xstrndup(s, len);
	const char *dot = strrchr(host, '.');
	const char *last = dot == NULL ? host : dot + 1;
	bool numeric = strspn(last, "0123456789") == strlen(last);
	struct in_addr a;
	const char *wrong =
	    numeric && inet_pton(AF_INET, host, &a) != 1 ? "is not an IPv4 address" : NULL;

	free(host);
	return wrong;
}

static const char *
check_v6(const char *s, size_t len)
{
	char *host = xstrndup(s, len);
	struct in6_addr a;
	const char *wrong =
	    inet_pton(AF_INET6, host, &a) != 1 ? "has no IPv6 address in its brackets" : NULL;

	free(host);
	return wrong;
}

/* Checks the host that `text` begins with; *rest is what follows: "" or ":…". */
static const char *
split_host(const char *text, bool numbers_are_v4, const char **rest)
{
	const char *wrong;
	size_t len;

	if (text[0] == '[') {
		len = strcspn(text, "]");
		if (text[len] == '\0')
			return "has no ']'";
		*rest = text + len + 1;
		wrong = check_v6(text + 1, len - 1);
		if (wrong == NULL && **rest != '\0' && **rest != ':')
			wrong = "has something after its ']' that is no port";
		return wrong;
	}
	if (strstr(text, "://") != NULL)
		return "has a scheme, which is an option of its own";
	len = strcspn(text, ":");
	*rest = text + len;
	if (text[len] == ':' && strchr(text + len + 1, ':') != NULL)
		return "has several colons (write an IPv6 address in brackets)";
	wrong = check_name(text, len);
	if (wrong == NULL && numbers_are_v4)
		wrong = check_v4(text, len);
	return wrong;
}

static const char *
check_port(const char *text, uint64_t lowest)
{
	uint64_t port;

	if (*text == '\0')
		return "has an empty port";
	if (strlen(text) > 5 || conf_parse_number(text, &port) != NULL || port < lowest ||
	    port > 65535)
		return lowest == 0 ? "has a port that is no number from 0 to 65535"
				   : "has a port that is no number from 1 to 65535";
	return NULL;
}

static const char *
check_host(const char *text, bool numbers_are_v4)
{
	const char *rest, *wrong;

	if (*text == '\0')
		return "is empty";
	wrong = split_host(text, numbers_are_v4, &rest);
	return wrong == NULL && *rest == ':' ? check_port(rest + 1, 1) : wrong;
}

const char *
conf_check_host(const char *text)
{
	if (strchr(text, '$') != NULL)
		return "has a '$', which only hosts of server.upstreamRules may have";
	return check_host(text, true);
}

/* The number of the $groupN at `s`; 0: there is none ("$group12" is none: nobody can tell how it
 * was meant). */
static unsigned
group_at(const char *s)
{
	const char *n = s + sizeof(group) - 1;

	if (strncmp(s, group, sizeof(group) - 1) != 0 || *n < '1' || *n > '9' ||
	    (n[1] >= '0' && n[1] <= '9'))
		return 0;
	return (unsigned)(*n - '0');
}

/* Every group is checked as if it had captured "1", which may stand in a host and in a port. */
const char *
conf_check_host_pattern(const char *text)
{
	char *sample = xcalloc(strlen(text) + 1, 1);
	const char *wrong = NULL;
	size_t n = 0;

	for (const char *s = text; *s != '\0' && wrong == NULL; s++) {
		if (*s != '$') {
			sample[n++] = *s;
		} else if (group_at(s) != 0) {
			sample[n++] = '1';
			s += sizeof(group) - 1;
		} else {
			wrong = "has a '$' that begins none of $group1 to $group9";
		}
	}
	if (wrong == NULL)
		wrong = check_host(sample, strchr(text, '$') == NULL);
	free(sample);
	return wrong;
}

const char *
conf_check_address(const char *text)
{
	const char *rest = text, *wrong = NULL;

	if (*text == '\0')
		return "is empty";
	if (*text != ':')
		wrong = split_host(text, true, &rest);
	if (wrong == NULL && *rest != ':')
		wrong = "has no port";
	return wrong == NULL ? check_port(rest + 1, 0) : wrong;
}

const char *
conf_check_socket(const char *text)
{
	static const char unix_prefix[] = "unix:";
	const char *path = text + strlen(unix_prefix);

	if (strncmp(text, unix_prefix, strlen(unix_prefix)) != 0)
		return conf_check_address(text);
	if (*path != '/')
		return "has a path that does not begin with '/'";
	if (path[1] == '\0' || path[strlen(path) - 1] == '/')
		return "has a path that is a folder's";
	if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return "has a path of more than 107 characters";
	return strpbrk(path, " \t") != NULL ? "has a blank in its path" : NULL;
}

unsigned
conf_highest_group(const char *pattern)
{
	unsigned highest = 0;

	for (const char *s = strchr(pattern, '$'); s != NULL; s = strchr(s + 1, '$'))
		if (group_at(s) > highest)
			highest = group_at(s);
	return highest;
}

int
conf_regex_groups(const char *regex, char *wrong, size_t size)
{
	int error;
	PCRE2_SIZE offset;
	uint32_t groups = 0;
	pcre2_code *code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
	    PCRE2_NEVER_BACKSLASH_C, &error, &offset, NULL);

	if (code == NULL) {
		PCRE2_UCHAR text[120];

		pcre2_get_error_message(error, text, sizeof(text));
		snprintf(wrong, size, "is wrong at its character %zu: %s", (size_t)offset + 1,
		    (const char *)text);
		return -1;
	}
	pcre2_pattern_info(code, PCRE2_INFO_CAPTURECOUNT, &groups);
	pcre2_code_free(code);
	return (int)groups;
}
