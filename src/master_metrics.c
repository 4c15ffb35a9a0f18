/* The sockets that metrics are served on: opened here, kept over changes of the configuration and of
 * the program, and given to each gc. Nobody else's queue is behind them, so there is one for an
 * address. */
#include "master_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf.h"
#include "log.h"
#include "xalloc.h"

/* Of the addresses that are wanted, those that are there. */
static bool
is_open(const struct master *m, const char *address)
{
	for (unsigned i = 0; i < m->nmetrics; i++)
		if (strcmp(m->metrics[i].address, address) == 0)
			return true;
	return false;
}

static void
take(struct master *m, int fd, const char *bound, const char *address)
{
	struct master_socket *s;

	m->metrics = xrealloc(m->metrics, (m->nmetrics + 1) * sizeof(*m->metrics));
	s = &m->metrics[m->nmetrics++];
	s->fd = fd;
	s->address = xstrdup(address);
	snprintf(s->bound, sizeof(s->bound), "%s", bound);
}

bool
master_open_metrics(struct master *m, const struct conf *conf)
{
	const char *address = conf->metrics.address;
	char bound[MASTER_BOUND_SIZE];
	int fd;

	if (address == NULL || is_open(m, address))
		return true;
	if (!master_listen(address, 1, &fd, bound))
		return false;
	take(m, fd, bound, address);
	log_info("metrics are served on %s", bound);
	return true;
}

bool
master_inherit_metrics(struct master *m, const char *line)
{
	char bound[MASTER_BOUND_SIZE], address[512];
	int fd;

	if (sscanf(line, "metrics %d %127s %511[^\n]", &fd, bound, address) != 3)
		return false;
	take(m, fd, bound, address);
	return true;
}

void
master_close_metrics(struct master *m, const struct conf *conf)
{
	const char *address = conf != NULL ? conf->metrics.address : NULL;
	unsigned left = 0;

	for (unsigned i = 0; i < m->nmetrics; i++) {
		struct master_socket *s = &m->metrics[i];

		if (address != NULL && strcmp(s->address, address) == 0) {
			m->metrics[left++] = *s;
			continue;
		}
		close(s->fd);
		free(s->address);
	}
	m->nmetrics = left;
	if (conf != NULL)
		return;
	free(m->metrics);
	m->metrics = NULL;
}

unsigned
master_share_metrics(const struct master *m, const struct master_child *c, int *fds)
{
	for (unsigned i = 0; i < m->nmetrics; i++)
		if (c->is_gc)
			fds[i] = m->metrics[i].fd;
		else
			close(m->metrics[i].fd);
	return c->is_gc ? m->nmetrics : 0;
}
