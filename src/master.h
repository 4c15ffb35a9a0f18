/* The master process: opens sockets, makes the shared memory, forks and supervises. Opens no LMDB,
 * no libcurl and no client connection. Signals only set flags; one loop acts on them in a fixed
 * order. */
#ifndef MASTER_H
#define MASTER_H

struct conf;

/* Runs until TERM or INT. Returns the exit status. `conf_path` is for messages. */
int master_run(const struct conf *conf, const char *conf_path);

#endif
