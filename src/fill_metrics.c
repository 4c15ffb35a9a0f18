/* What fills add to the metrics. */
#include "clock.h"
#include "fill_private.h"
#include "shm_metrics.h"

unsigned
fill_target(const struct fill *f)
{
	return shm_metric_target(f->fills->c.shm, f->fills->c.owner.listener, f->source.registry,
	    f->source.host);
}

void
fill_measure(const struct fill *f)
{
	shm_metric_filled(f->fills->c.shm, f->fills->c.owner.listener, fill_target(f),
	    (clock_ms() - f->since) * 1000);
}

void
fill_measure_wait(const struct fill *f, bool got_it)
{
	shm_metric_waited(f->fills->c.shm, f->fills->c.owner.listener, METRIC_WORKERS,
	    (clock_ms() - f->since) * 1000, got_it);
}

void
fills_count(const struct fills *fs, uint64_t *queued, uint64_t *followers)
{
	const struct fill_client *c;
	const struct fill *f;

	*queued = *followers = 0;
	TAILQ_FOREACH(f, &fs->all, all)
	{
		*queued += f->phase == PHASE_QUEUED;
		TAILQ_FOREACH(c, &f->clients, link)
		*followers += !c->origin;
	}
}
