/* The encoding of the index's records. A layout that changes gets a new version number;
 * decoders refuse the ones they do not know, and the object is fetched or hashed again. */
#include "index_record.h"

#include <string.h>

enum {
	OBJECT_VERSION = 1,
	LEASE_VERSION = 1,
	NAME_VERSION = 1,
};

/* A record being written or read. Reading past the end gives zeros and `bad`. */
struct cursor {
	uint8_t *out;
	const uint8_t *in;
	size_t left;
	bool bad;
};

static void
put(struct cursor *c, uint64_t v, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		*c->out++ = (uint8_t)(v >> 8 * i);
}

static uint64_t
get(struct cursor *c, size_t bytes)
{
	uint64_t v = 0;

	if (c->bad || c->left < bytes) {
		c->bad = true;
		return 0;
	}
	for (size_t i = 0; i < bytes; i++)
		v |= (uint64_t)*c->in++ << 8 * i;
	c->left -= bytes;
	return v;
}

/* Begins to read; a version other than `version` makes all of it bad. */
static struct cursor
open_record(const void *data, size_t len, uint8_t version)
{
	struct cursor c = {.in = data, .left = len};

	c.bad = get(&c, 1) != version || c.bad;
	return c;
}

/* --- objects --------------------------------------------------------------------------------- */

size_t
index_record_encode_object(const struct index_object *o, uint8_t out[INDEX_RECORD_MAX])
{
	struct cursor c = {.out = out};
	size_t n = strnlen(o->media_type, INDEX_MEDIA_TYPE_SIZE - 1);

	put(&c, OBJECT_VERSION, 1);
	put(&c, o->kind, 1);
	put(&c, o->size, 8);
	put(&c, (uint64_t)o->fetched_at, 8);
	put(&c, (uint64_t)o->verified_at, 8);
	put(&c, o->usage, 4);
	put(&c, n, 1);
	memcpy(c.out, o->media_type, n);
	return (size_t)(c.out - out) + n;
}

bool
index_record_decode_object(const void *data, size_t len, struct index_object *out)
{
	struct cursor c = open_record(data, len, OBJECT_VERSION);
	size_t n;

	memset(out, 0, sizeof(*out));
	out->kind = (uint8_t)get(&c, 1);
	out->size = get(&c, 8);
	out->fetched_at = (int64_t)get(&c, 8);
	out->verified_at = (int64_t)get(&c, 8);
	out->usage = (uint32_t)get(&c, 4);
	n = get(&c, 1);
	c.bad |= out->kind != OBJECT_BLOB && out->kind != OBJECT_MANIFEST;
	if (c.bad || n >= INDEX_MEDIA_TYPE_SIZE || n != c.left) {
		memset(out, 0, sizeof(*out));
		return false;
	}
	memcpy(out->media_type, c.in, n);
	return true;
}

/* --- leases ---------------------------------------------------------------------------------- */

size_t
index_record_encode_lease(const struct index_lease *l, uint8_t out[INDEX_RECORD_MAX])
{
	struct cursor c = {.out = out};

	put(&c, LEASE_VERSION, 1);
	put(&c, l->listener, 4);
	put(&c, l->generation, 8);
	put(&c, l->id, 8);
	put(&c, l->slot, 4);
	put(&c, l->seq, 8);
	put(&c, l->deadline, 8);
	return (size_t)(c.out - out);
}

bool
index_record_decode_lease(const void *data, size_t len, struct index_lease *out)
{
	struct cursor c = open_record(data, len, LEASE_VERSION);

	memset(out, 0, sizeof(*out));
	out->listener = (uint32_t)get(&c, 4);
	out->generation = get(&c, 8);
	out->id = get(&c, 8);
	out->slot = (uint32_t)get(&c, 4);
	out->seq = get(&c, 8);
	out->deadline = get(&c, 8);
	if (!c.bad && c.left == 0 && out->id != 0)
		return true;
	memset(out, 0, sizeof(*out));
	return false;
}

/* --- names ----------------------------------------------------------------------------------- */

size_t
index_record_encode_name(const struct digest *d, int64_t seen_at, uint8_t out[INDEX_RECORD_MAX])
{
	struct cursor c = {.out = out};

	put(&c, NAME_VERSION, 1);
	put(&c, (uint64_t)seen_at, 8);
	return (size_t)(c.out - out) + digest_key(d, c.out);
}

bool
index_record_decode_name(const void *data, size_t len, struct digest *d, int64_t *seen_at)
{
	struct cursor c = open_record(data, len, NAME_VERSION);

	*seen_at = (int64_t)get(&c, 8);
	if (!c.bad && digest_from_key(c.in, c.left, d))
		return true;
	*d = (struct digest){0};
	*seen_at = 0;
	return false;
}
