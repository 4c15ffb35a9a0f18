/* The configuration file: YAML by libfyaml into one struct, by one table of options (conf_table.c),
 * from which parsing, defaults, limits, --print-config and the manual's list are made.
 */
#ifndef CONF_H
#define CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct conf_list {
	char **items;
	size_t n;
};

struct conf_backend {
	char *host, *scheme;
	char *registry; /* of server.registries, instead of the others; NULL: none */
	int trusted; /* 1, 0, -1: derived */
};

struct conf_rule {
	char *regex;
	struct conf_backend to;
	unsigned line, column; /* of its regex, from 1, for errors found later */
};

/* One entry of server.registries. */
struct conf_registry {
	char *name;
	char **hosts;
	size_t nhosts;
	char **aliases; /* names that it has besides */
	size_t naliases;
	bool library;
	char *scheme, *ca_path, *credentials;
	char *realm; /* NULL: its own host and domain only */
	int trusted;
};

/* One of server.tls.certificates. */
struct conf_certificate {
	char *cert_path, *key_path;
};

/* Owned by the caller of conf_load(); free with conf_free(). Sizes in bytes, durations in
 * milliseconds. */
struct conf {
	char *data_path;
	char *user; /* NULL: stay who we are */
	char *group; /* NULL: the user's own */
	bool sandbox;
	struct {
		unsigned workers, streamers; /* streamers 0: no limit */
		unsigned listeners;          /* 0 in the file: the number of CPUs, put in here */
		uint64_t upstream_timeout, timeout, connect_timeout, first_byte_timeout,
		    drain_timeout, keep_alive, check_grace, heartbeat_timeout;
		uint64_t rate_limit_default, rate_limit_max, down_max;
		unsigned down_after;                                   /* 0: never */
		char *rate_limit_status;                               /* 429, 503 */
		uint64_t low_speed;                                    /* bytes a second */
		uint64_t max_head;                                     /* bytes of a request head */
		unsigned max_connections, max_connections_per_address; /* 0: no limit */
		unsigned request_rate, request_burst; /* requests a second and at once; rate 0: no limit */
		uint64_t client_bandwidth;            /* bytes a second; 0: no limit */
		bool read_only, allow_private_redirects, pass_ranges;
		struct conf_list addresses;          /* host:port, [v6]:port, unix:/path */
		struct conf_list proxies;            /* networks that speak the PROXY protocol */
		unsigned socket_mode;                /* of unix:/path */
		struct conf_backend default_backend; /* host and registry NULL: none */
		struct conf_rule *rules;
		size_t nrules;
		struct conf_registry *registries;
		size_t nregistries;
		struct {
			char *clients; /* anonymous, password, certificate; NULL: not said */
			char *htpasswd, *realm;
		} auth;
		struct {
			char *cert_path, *key_path, *ca_path, *client_ca_path;
			char *client_auth; /* none, request, require */
			char *min_version; /* 1.2, 1.3 */
			char *ciphers, *ciphersuites, *groups;
			struct conf_certificate *certificates; /* besides cert_path */
			size_t ncertificates;
			uint64_t ticket_rotation;
			bool kernel;
		} tls;
	} server;
	struct {
		char *address;
	} metrics;
	struct {
		char *path;  /* NULL: standard error */
		char *syslog; /* facility; NULL: no syslog */
		char *format; /* text, json */
		char *level;  /* error, warn, info, debug, trace */
		bool access;
	} log;
	struct {
		uint64_t disk_max_size, disk_min_free; /* 0: no limit */
		uint64_t interval;
		struct {
			bool check_sha;
			uint64_t check_interval, check_rate, max_age, max_unused; /* 0: never */
		} layers;
		struct {
			uint64_t max_age, max_unused;
		} manifests;
	} gc;
};

/* Reads `path`. Every mistake is written to `errors` as "file:line:column: what is wrong, what was
 * expected", all of them in one run. NULL when there was any (also for a file that is missing,
 * empty, too large or not UTF-8). */
struct conf *conf_load(const char *path, FILE *errors);
/* The same from memory; `name` stands for the file in messages. */
struct conf *conf_parse(const char *name, const char *text, size_t len, FILE *errors);
void conf_free(struct conf **c);
/* Writes a file that conf_load() reads to the same values: every option, defaults included. */
void conf_print(const struct conf *c, FILE *out);
/* Writes the list of options for the manual page, in mdoc. */
void conf_print_mdoc(FILE *out);
/* Text of ours for roff: a sentence begins a line, and lines are short. */
void conf_put_mdoc(const char *s, FILE *out);

#endif
