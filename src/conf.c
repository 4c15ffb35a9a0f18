/* Loads a configuration: reads the file, has it parsed and checked, frees what came of it. */
#include "conf.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena.h"
#include "buf.h"
#include "conf_error.h"
#include "conf_read.h"
#include "conf_table.h"
#include "conf_value.h"
#include "conf_yaml.h"
#include "shm.h"
#include "xalloc.h"

/* A tree of CONF_MAX_NODES nodes takes a tenth of this. */
enum { ARENA_BYTES = 256 << 20 };

/* The CPUs that this process may run on, as many as there can be listeners. */
static unsigned
cpus(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set)
							     : (int)sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > SHM_MAX_LISTENERS ? SHM_MAX_LISTENERS : (unsigned)n;
}

/* Of a backend without a host of its own: a default, of nothing. */
static void
drop_scheme(struct conf_backend *to)
{
	if (to->host != NULL)
		return;
	free(to->scheme);
	to->scheme = NULL;
}

/* What follows from the values of a file without mistakes. */
static void
derive(struct conf *c)
{
	if (c->server.listeners == 0)
		c->server.listeners = cpus();
	drop_scheme(&c->server.default_backend);
	for (size_t i = 0; i < c->server.nrules; i++)
		drop_scheme(&c->server.rules[i].to);
}

struct conf *
conf_parse(const char *name, const char *text, size_t len, FILE *out)
{
	struct conf_errors errors = {0};
	struct conf *c = xcalloc(1, sizeof(*c));
	struct conf_node *root;
	struct arena arena;

	arena_init(&arena, ARENA_BYTES);
	root = conf_yaml_parse(text, len, &arena, &errors);
	if (root != NULL)
		conf_read(c, root, &arena, &errors);
	if (conf_errors_count(&errors) > 0)
		conf_free(&c);
	else
		derive(c);
	conf_errors_write(&errors, name, out);
	conf_errors_free(&errors);
	arena_reset(&arena);
	return c;
}

/* Reads to the end of the file, or one byte more than is taken. */
static bool
read_all(int fd, struct buf *b)
{
	while (buf_len(b) <= CONF_MAX_BYTES) {
		ssize_t n = read(fd, buf_room(b, 65536), 65536);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		if (n == 0)
			break;
		buf_grew(b, (size_t)n);
	}
	return true;
}

/* Who may write the configuration decides where credentials are sent. */
static bool
is_safe(int fd, const char *path, FILE *errors)
{
	struct stat st;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (st.st_mode & S_IWOTH) == 0)
		return true;
	fprintf(errors, "%s: anybody may write it (mode %04o), expected a file that only its owner may\n",
	    path, (unsigned)(st.st_mode & 07777));
	return false;
}

struct conf *
conf_load(const char *path, FILE *errors)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct conf *c = NULL;
	struct buf b = {0};

	if (fd < 0) {
		fprintf(errors, "%s: cannot be opened: %s, expected a configuration file\n", path,
		    strerror(errno));
		return NULL;
	}
	if (!is_safe(fd, path, errors))
		;
	else if (read_all(fd, &b))
		c = conf_parse(path, (const char *)buf_data(&b), buf_len(&b), errors);
	else
		fprintf(errors, "%s: cannot be read: %s, expected a configuration file\n", path,
		    strerror(errno));
	buf_free(&b);
	close(fd);
	return c;
}

/* The strings of one struct, by its table. */
static void
free_scalars(const struct conf_table *t, void *base)
{
	for (size_t i = 0; i < t->n; i++)
		if (conf_is_scalar(&t->rows[i]))
			conf_value_free(&t->rows[i], (char *)base + t->rows[i].offset);
}

static void
free_list(struct conf_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->items[i]);
	free(list->items);
}

static void
free_registry(struct conf_registry *r)
{
	free_scalars(&conf_registry_table, r);
	for (size_t i = 0; i < r->nhosts; i++)
		free(r->hosts[i]);
	for (size_t i = 0; i < r->naliases; i++)
		free(r->aliases[i]);
	free(r->hosts);
	free(r->aliases);
	free(r->name);
}

void
conf_free(struct conf **cp)
{
	struct conf *c = *cp;

	if (c == NULL)
		return;
	for (size_t i = 0; i < c->server.nrules; i++)
		free_scalars(&conf_rule_table, &c->server.rules[i]);
	for (size_t i = 0; i < c->server.nregistries; i++)
		free_registry(&c->server.registries[i]);
	for (size_t i = 0; i < c->server.tls.ncertificates; i++)
		free_scalars(&conf_certificate_table, &c->server.tls.certificates[i]);
	free(c->server.tls.certificates);
	free_list(&c->server.addresses);
	free_list(&c->server.proxies);
	free(c->server.rules);
	free(c->server.registries);
	free_scalars(&conf_table, c);
	free(c);
	*cp = NULL;
}
