/* A credential that the cache holds for a registry. */
#include "credential.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "http_basic.h"
#include "secret.h"
#include "xalloc.h"

/* NULL, or what is wrong (static). The line's end is cut off. */
static const char *
find_mistake(char *text)
{
	size_t n = strlen(text);

	if (n > 0 && text[n - 1] == '\n')
		text[--n] = '\0';
	if (n > 0 && text[n - 1] == '\r')
		text[--n] = '\0';
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 127)
			return "more than one line, or a control character in it";
	if (strchr(text, ':') == NULL || *text == ':')
		return "not of the form user:password";
	if (text[strcspn(text, ":") + 1] == '\0')
		return "the password is empty";
	return NULL;
}

static void
wipe(char *text)
{
	explicit_bzero(text, strlen(text));
	free(text);
}

/* "user:password", its parts, and what is made of it: all in one piece of memory. */
static struct credential *
make(char *line)
{
	char *colon = strchr(line, ':'), *basic, *to;
	struct credential *c;

	*colon = '\0';
	basic = http_basic_write(line, colon + 1);
	c = secret_alloc(sizeof(*c) + strlen(line) + strlen(colon + 1) + strlen(basic) + 3);
	to = (char *)(c + 1);
	c->user = to;
	to = stpcpy(to, line) + 1;
	c->password = to;
	to = stpcpy(to, colon + 1) + 1;
	strcpy(to, basic);
	if (strcmp(c->user, CREDENTIAL_REFRESH_USER) == 0)
		c->refresh = c->password;
	else
		c->basic = to;
	wipe(basic);
	return c;
}

struct credential *
credential_load(const char *path, char **error)
{
	size_t n;
	char *text = secret_read_file(path, S_IRWXG | S_IRWXO, CREDENTIAL_MAX_BYTES, &n, error);
	const char *mistake = text != NULL ? find_mistake(text) : NULL;
	struct credential *c = NULL;

	if (mistake != NULL)
		*error = xasprintf("%s: %s", path, mistake);
	else if (text != NULL)
		c = make(text);
	secret_drop(text);
	return c;
}

void
credential_free(struct credential **c)
{
	secret_drop(*c);
	*c = NULL;
}
