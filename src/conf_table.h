/* The table of options: what parsing, defaults, limits, --print-config and the manual's list are
 * made of. A new option is one row here (and its field in struct conf). */
#ifndef CONF_TABLE_H
#define CONF_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The type of the field is in brackets. */
enum conf_type {
	CONF_STRING,       /* [char *] */
	CONF_PATH,         /* [char *] of a file or folder, kept as written */
	CONF_WORD,         /* [char *] one of `words` */
	CONF_BOOL,         /* [bool] */
	CONF_TRUST,        /* [int] 1, 0; -1 while not said */
	CONF_NUMBER,       /* [unsigned] */
	CONF_SIZE,         /* [uint64_t] bytes */
	CONF_RATE,         /* [uint64_t] bytes a second */
	CONF_DURATION,     /* [uint64_t] milliseconds */
	CONF_ADDRESS,      /* [char *] to listen on: host:port, [v6]:port or :port */
	CONF_SOCKET,       /* [char *] the same, or unix:/path */
	CONF_NETWORK,      /* [char *] 10.0.0.0/8, an IP address, or unix */
	CONF_MODE,         /* [unsigned] of a file */
	CONF_HOST,         /* [char *] of a registry: host[:port] */
	CONF_HOST_PATTERN, /* [char *] the same, and may hold $group1 to $group9 */
	CONF_REGEX,        /* [char *] */
	/* Not scalars: conf_read.c and conf_print.c know what they are made of. */
	CONF_SOCKETS,    /* [struct conf_list], or one of them alone */
	CONF_NETWORKS,   /* [struct conf_list] */
	CONF_HOSTS,      /* struct conf_registry's hosts */
	CONF_NAMES,      /* its aliases */
	CONF_RULES,      /* struct conf's server.rules, each by conf_rule_table */
	CONF_CERTIFICATES, /* struct conf's server.tls.certificates, each by conf_certificate_table */
	CONF_REGISTRIES, /* struct conf's server.registries, each by conf_registry_table */
};

struct conf_option {
	const char *path; /* dotted, relative to what the table describes */
	enum conf_type type;
	size_t offset;        /* in what the table describes */
	const char *fallback; /* the default, as in a file; NULL: none (NULL or -1 in the field) */
	uint64_t min, max;    /* numbers, sizes, rates and durations */
	const char *const *words; /* CONF_WORD: ends with NULL */
	bool required;
	const char *about; /* for the manual: whole sentences */
};

/* Rows of one section stand together. */
struct conf_table {
	const struct conf_option *rows;
	size_t n;
};

extern const struct conf_table conf_table;          /* struct conf */
extern const struct conf_table conf_rule_table;     /* struct conf_rule */
extern const struct conf_table conf_registry_table; /* struct conf_registry */
extern const struct conf_table conf_certificate_table; /* struct conf_certificate */

/* The row of this path; NULL: there is none. */
const struct conf_option *conf_table_find(const struct conf_table *t, const char *path);
/* Is there a row whose path begins with `path` and a dot? */
bool conf_table_has_section(const struct conf_table *t, const char *path);
/* Walks over the names that may stand in the section `path` ("": the top). Begin with *i = 0; NULL:
 * no more. The name has *len bytes. */
const char *conf_table_next_name(
    const struct conf_table *t, const char *path, size_t *i, size_t *len);

#endif
