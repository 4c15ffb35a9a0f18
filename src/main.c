/* The command line: reads the flags and the configuration, checks what can be checked before
 * anything runs, and hands over to the master. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf.h"
#include "conf_auth.h"
#include "conf_routes.h"
#include "conf_tls.h"
#include "list.h"
#include "log.h"
#include "master.h"
#include "route.h"
#include "tls.h"
#include "verify.h"
#include "version.h"
#include "xalloc.h"

#ifndef DEFAULT_CONFIG
#define DEFAULT_CONFIG "/etc/registry-cache/registry-cache.yaml"
#endif

enum { EXIT_USAGE = 2 }; /* also for a configuration that is wrong */

enum { OPTION_PRINT_CONFIG = 256, OPTION_LIST, OPTION_VERIFY, OPTION_REPAIR };

struct options {
	const char *config;
	const char *pid_path;
	unsigned debug; /* how often -d was given */
	bool detach, test, print_config, verify, repair, list;
};

static void
usage(FILE *to)
{
	fputs("usage: registry-cache [-DdhtV] [-c file] [-p file] [--print-config] [--list]\n"
	      "                      [--verify [--repair]]\n"
	      "  -c file         the configuration (" DEFAULT_CONFIG ")\n"
	      "  -t              check the configuration and exit\n"
	      "  -D              become a daemon; the exit status says whether it serves\n"
	      "  -p file         write the master's pid there\n"
	      "  --print-config  print the configuration, defaults included, and exit\n"
	      "  --list          list the tags that are stored\n"
	      "  --verify        hash every stored object; exit status 1 if any is bad\n"
	      "  --repair        with --verify: remove what is bad\n"
	      "  -d, -dd         log level debug, trace\n"
	      "  -V              print the version and exit\n"
	      "  -h              print this and exit\n",
	    to);
}

/* --- checks ---------------------------------------------------------------------------------- */

/* The same rules as a listener compiles, so that none finds a mistake that was not said here. */
static bool
routes_are_valid(const struct conf *c, const char *file, FILE *errors)
{
	size_t bad = 0;
	char *error = NULL;
	struct route_table *table = conf_routes(c, &bad, &error);
	bool valid = table != NULL;

	if (!valid && bad < c->server.nrules)
		fprintf(errors, "%s:%u:%u: %s\n", file, c->server.rules[bad].line,
		    c->server.rules[bad].column, error);
	else if (!valid)
		fprintf(errors, "%s: server.defaultBackend: %s\n", file, error);
	route_table_free(&table);
	free(error);
	return valid;
}

/* False, with errno. */
static bool
is_readable(const char *path)
{
	return path == NULL || access(path, R_OK) == 0;
}

static bool
authorities_are_valid(const struct conf *c, const char *file, FILE *errors)
{
	bool valid = is_readable(c->server.tls.ca_path);

	if (!valid)
		fprintf(errors, "%s: server.tls.caPath %s: %s\n", file, c->server.tls.ca_path,
		    strerror(errno));
	for (size_t i = 0; i < c->server.nregistries; i++) {
		const struct conf_registry *r = &c->server.registries[i];

		if (is_readable(r->ca_path))
			continue;
		fprintf(errors, "%s: server.registries.%s.caPath %s: %s\n", file, r->name,
		    r->ca_path, strerror(errno));
		valid = false;
	}
	return valid;
}

static bool
tls_is_valid(const struct conf *c, const char *file, FILE *errors)
{
	struct tls_server *server;
	char *error = NULL;
	bool valid;

	if (!authorities_are_valid(c, file, errors))
		return false;
	server = conf_tls_server(c, &error);
	valid = error == NULL;
	if (!valid)
		fprintf(errors, "%s: %s\n", file, error);
	tls_server_free(&server);
	free(error);
	return valid;
}

static bool
machine_is_fit(const struct conf *c, const char *file, FILE *errors)
{
	char *why = master_check(c);
	bool fit = why == NULL;

	if (!fit)
		fprintf(errors, "%s: %s\n", file, why);
	free(why);
	return fit;
}

/* Says all that is wrong. */
static bool
is_valid(const struct conf *c, const char *file, FILE *errors)
{
	bool routes = routes_are_valid(c, file, errors);
	bool tls = tls_is_valid(c, file, errors);
	bool machine = machine_is_fit(c, file, errors);

	return conf_auth_is_valid(c, file, errors) && tls && routes && machine;
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
	struct conf *c = o->print_config || o->verify || o->list ? conf_load(o->config, stderr)
	                                              : load_valid(o->config, stderr);
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
	if (!o->print_config && !o->test && !o->verify && !o->list)
		return master_run(c, &start);
	if (o->print_config)
		status = print_config(c);
	else if (o->verify)
		status = verify_run(
		    &(struct verify_options){.data_path = c->data_path, .repair = o->repair});
	else if (o->list)
		status = list_run(c->data_path);
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
	case OPTION_VERIFY:
		o->verify = true;
		return true;
	case OPTION_LIST:
		o->list = true;
		return true;
	case OPTION_REPAIR:
		o->repair = true;
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
	    {"list", no_argument, NULL, OPTION_LIST},
	    {"verify", no_argument, NULL, OPTION_VERIFY},
	    {"repair", no_argument, NULL, OPTION_REPAIR},
	    {"version", no_argument, NULL, 'V'},
	    {"help", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0},
	};
	struct options o = {.config = DEFAULT_CONFIG};
	int flag;
	bool known = true;

	while (known && (flag = getopt_long(argc, argv, "c:Ddhp:tV", names, NULL)) != -1)
		known = take_option(&o, flag);
	if (!known || optind < argc || (o.repair && !o.verify)) {
		if (known && optind < argc)
			fprintf(stderr, "registry-cache: unexpected argument: %s\n", argv[optind]);
		else if (known)
			fprintf(stderr, "registry-cache: --repair needs --verify\n");
		usage(stderr);
		return EXIT_USAGE;
	}
	return run(&o, argv);
}
