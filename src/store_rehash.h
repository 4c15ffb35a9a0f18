/* Hashing a stored file again, in bounded steps, without disturbing the page cache: what was not in
 * it before is not in it after. */
#ifndef STORE_REHASH_H
#define STORE_REHASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "digest.h"

struct store_rehash;

enum store_rehash_result {
	STORE_REHASH_MORE,   /* there is more to read */
	STORE_REHASH_RIGHT,  /* its bytes are those of its digest */
	STORE_REHASH_WRONG,  /* they are not */
	STORE_REHASH_FAILED, /* it cannot be read: errno */
};

/* Takes `fd`, in every case. The result is owned by the caller. */
struct store_rehash *store_rehash_begin(int fd, const struct digest *d);
/* Lets the disk begin to read the first block, if it is not in memory: for the one that comes after
 * others. Does not wait. */
void store_rehash_ahead(struct store_rehash *r);
/* Reads and hashes at most `max` bytes, but at least a page; waits for the disk. After
 * anything but STORE_REHASH_MORE only store_rehash_end() may follow. */
enum store_rehash_result store_rehash_step(struct store_rehash *r, size_t max)
    __attribute__((warn_unused_result));
/* Bytes read so far. */
uint64_t store_rehash_bytes(const struct store_rehash *r);
/* After STORE_REHASH_RIGHT: all its bytes, if they are no more than a block; else NULL. Borrowed. */
const char *store_rehash_whole(const struct store_rehash *r, size_t *n);
int store_rehash_fd(const struct store_rehash *r); /* borrowed */
void store_rehash_end(struct store_rehash **r);

#endif
