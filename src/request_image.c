/* What belongs together stays together: when a manifest is sent, what it names (config and layers,
 * or an index's manifests) counts as used with it, if it is here. So the parts of an image that clients
 * still ask for, but have themselves, do not age apart. At most once a minute a manifest. */
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "index.h"
#include "media.h"
#include "request_private.h"
#include "xalloc.h"

enum {
	AGAIN_MS = 60000,
	MANIFEST_MAX = 512 * 1024, /* bytes; larger ones are not read: that would hold the loop */
};

struct touching {
	struct index *ix;
	int64_t now_ms;
};

static void
touch(const char *text, size_t n, void *arg)
{
	const struct touching *t = arg;
	struct index_object o;
	struct digest d;

	if (digest_parse(text, n, &d) == DIGEST_OK && index_get_object(t->ix, &d, &o) == INDEX_OK)
		index_touch(t->ix, &o, t->now_ms);
}

void
request_touch_image(struct request *req)
{
	struct touching t = {req->s->index, clock_wall_ms()};
	size_t n = req->size > 0 ? (size_t)req->size : 0;
	int64_t used;
	char *text;

	if (req->route.kind != ROUTE_MANIFEST || req->s->index == NULL || req->fd < 0 || n == 0 ||
	    n > MANIFEST_MAX)
		return;
	used = index_last_used(t.ix, &req->object);
	if (req->hit && used <= t.now_ms && t.now_ms - used < AGAIN_MS)
		return;
	text = xmalloc(n);
	if (pread(req->fd, text, n, 0) == (ssize_t)n)
		media_each_digest(text, n, touch, &t);
	free(text);
}
