/* The command line: reads the flags and the configuration, checks what can be checked before
 * anything runs, and hands over to the master. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf.h"
#include "log.h"
#include "master.h"
#include "route.h"
#include "tls.h"
#include "xalloc.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif
#ifndef DEFAULT_CONFIG
#define DEFAULT_CONFIG "/etc/registry-cache/registry-cache.yaml"
#endif

enum { EXIT_USAGE = 2 }; /* also for a configuration that is wrong */

enum { OPTION_PRINT_CONFIG = 256 };

struct options {
	const char *config;
	const char *pid_path;
	unsigned debug; /* how often -d was given */
	bool detach, test, print_config;
};

static void
usage(FILE *to)
{
	fputs("usage: registry-cache [-DdhtV] [-c file] [-p file] [--print-config]\n"
	      "  -c file         the configuration (" DEFAULT_CONFIG ")\n"
	      "  -t              check the configuration and exit\n"
	      "  -D              become a daemon; the exit status says whether it serves\n"
	      "  -p file         write the master's pid there\n"
	      "  --print-config  print the configuration, defaults included, and exit\n"
	      "  -d, -dd         log level debug, trace\n"
	      "  -V              print the version and exit\n"
	      "  -h              print this and exit\n",
	    to);
}

/* --- checks ---------------------------------------------------------------------------------- */

static struct route_rule
rule_to(const char *regex, const struct conf_backend *to)
{
	return (struct route_rule){
	    .regex = regex, .host = to->host, .scheme = to->scheme, .trusted = to->trusted};
}

/* The same rules as a listener compiles, so that none finds a mistake that was not said here. */
static bool
routes_are_valid(const struct conf *c, const char *file, FILE *errors)
{
	size_t n = c->server.nrules, bad = 0;
	struct route_rule *rules = xcalloc(n + 1, sizeof(*rules));
	struct route_table *table;
	char *error = NULL;
	bool valid;

	for (size_t i = 0; i < n; i++)
		rules[i] = rule_to(c->server.rules[i].regex, &c->server.rules[i].to);
	if (c->server.default_backend.host != NULL)
		rules[n++] = rule_to(NULL, &c->server.default_backend);
	table = route_table_new(rules, n, &bad, &error);
	if (table == NULL && bad < c->server.nrules)
		fprintf(errors, "%s:%u:%u: %s\n", file, c->server.rules[bad].line,
		    c->server.rules[bad].column, error);
	else if (table == NULL)
		fprintf(errors, "%s: server.defaultBackend: %s\n", file, error);
	valid = table != NULL;
	route_table_free(&table);
	free(error);
	free(rules);
	return valid;
}

static bool
tls_is_valid(const struct conf *c, const char *file, FILE *errors)
{
	struct tls_server *server;
	char *error = NULL;
	bool valid;

	if (c->server.tls.ca_path != NULL && access(c->server.tls.ca_path, R_OK) != 0) {
		fprintf(errors, "%s: server.tls.caPath %s: %s\n", file, c->server.tls.ca_path,
		    strerror(errno));
		return false;
	}
	if (c->server.tls.cert_path == NULL)
		return true;
	server = tls_server_new(c->server.tls.cert_path, c->server.tls.key_path, &error);
	valid = server != NULL;
	if (!valid)
		fprintf(errors, "%s: server.tls: %s\n", file, error);
	tls_server_free(&server);
	free(error);
	return valid;
}

/* Says all that is wrong. */
static bool
is_valid(const struct conf *c, const char *file, FILE *errors)
{
	bool routes = routes_are_valid(c, file, errors);

	return tls_is_valid(c, file, errors) && routes;
}

/* --- flags ----------------------------------------------------------------------------------- */

static int
print_config(const struct conf *c)
{
	conf_print(c, stdout);
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	fprintf(stderr, "registry-cache: standard output: %s\n", strerror(errno));
	return 1;
}

/* All that is wrong goes to `errors`. */
static struct conf *
load_valid(const char *path, FILE *errors)
{
	struct conf *c = conf_load(path, errors);

	if (c != NULL && !is_valid(c, path, errors))
		conf_free(&c);
	return c;
}

static int
run(const struct options *o, char **arguments)
{
	struct conf *c = o->print_config ? conf_load(o->config, stderr) : load_valid(o->config, stderr);
	const struct master_start start = {
	    .conf_path = o->config,
	    .load = load_valid,
	    .arguments = arguments,
	    .pid_path = o->pid_path,
	    .detach = o->detach,
	    .debug = o->debug,
	};
	int status = 0;

	if (c == NULL)
		return EXIT_USAGE;
	if (o->detach && c->log.path == NULL && c->log.syslog == NULL) {
		fprintf(stderr,
		    "%s: with -D, log.path or log.syslog is needed: a daemon has no standard error\n",
		    o->config);
		conf_free(&c);
		return EXIT_USAGE;
	}
	if (!o->print_config && !o->test)
		return master_run(c, &start);
	if (o->print_config)
		status = print_config(c);
	else
		fprintf(stderr, "%s: configuration ok\n", o->config);
	conf_free(&c);
	return status;
}

/* One flag. False: it does not exist. */
static bool
take_option(struct options *o, int flag)
{
	switch (flag) {
	case 'c':
		o->config = optarg;
		return true;
	case 'D':
		o->detach = true;
		return true;
	case 'p':
		o->pid_path = optarg;
		return true;
	case 'd':
		o->debug++;
		return true;
	case 't':
		o->test = true;
		return true;
	case OPTION_PRINT_CONFIG:
		o->print_config = true;
		return true;
	case 'V':
		puts("registry-cache " PACKAGE_VERSION);
		exit(0);
	case 'h':
		usage(stdout);
		exit(0);
	default:
		return false;
	}
}

int
main(int argc, char **argv)
{
	static const struct option names[] = {
	    {"print-config", no_argument, NULL, OPTION_PRINT_CONFIG},
	    {"version", no_argument, NULL, 'V'},
	    {"help", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0},
	};
	struct options o = {.config = DEFAULT_CONFIG};
	int flag;
	bool known = true;

	while (known && (flag = getopt_long(argc, argv, "c:Ddhp:tV", names, NULL)) != -1)
		known = take_option(&o, flag);
	if (!known || optind < argc) {
		if (known)
			fprintf(stderr, "registry-cache: unexpected argument: %s\n", argv[optind]);
		usage(stderr);
		return EXIT_USAGE;
	}
	return run(&o, argv);
}
