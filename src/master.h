/* The master process: opens sockets, makes the shared memory, forks and supervises. Opens no LMDB,
 * no libcurl and no client connection. Signals only set flags; one loop acts on them in a fixed
 * order. */
#ifndef MASTER_H
#define MASTER_H

#include <stdbool.h>
#include <stdio.h>

struct conf;

/* Reads and checks the configuration `path`, all that is wrong goes to `errors`. NULL: something is.
 * Owned by the caller. */
typedef struct conf *master_load_fn(const char *path, FILE *errors);

/* What the command line says. Borrowed for the time of the run. */
struct master_start {
	const char *conf_path;
	master_load_fn *load; /* used again by HUP */
	char **arguments;     /* of the program, for USR2 */
	const char *pid_path; /* NULL: none */
	bool detach;          /* leave the terminal */
	unsigned debug;       /* how often -d was given: 1 is level debug, more is trace */
};

/* What a start needs of the machine besides: user, group, and a folder for the log. NULL, or what is wrong (owned
 * by the caller). */
char *master_check(const struct conf *conf);

/* Runs until TERM or INT. Returns the exit status. Takes `conf`. */
int master_run(struct conf *conf, const struct master_start *start);

#endif
