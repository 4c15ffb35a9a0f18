/* Reading a file to hash it. Pages that somebody else had in the page cache are left there; those
 * that came in for us are given back at once, so that the cache's own reading does not push out
 * what clients ask for. */
#include "store_rehash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "xalloc.h"

enum { BLOCK = 256 * 1024 };

struct store_rehash {
	int fd;
	struct digest digest;
	struct hasher *hasher;
	uint64_t at;
	uint64_t first; /* bytes in the first block */
	bool ours;      /* store_rehash_ahead() brought all of it in */
	unsigned char *block; /* NULL until the first step */
};

/* Without read-ahead: it would bring in pages that look like somebody else's. */
struct store_rehash *
store_rehash_begin(int fd, const struct digest *d)
{
	struct store_rehash *r = xmalloc(sizeof(*r));

	r->fd = fd;
	r->digest = *d;
	r->hasher = hasher_new((enum digest_algo)d->algo);
	r->at = r->first = 0;
	r->ours = false;
	r->block = NULL;
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	return r;
}

void
store_rehash_end(struct store_rehash **r)
{
	if (*r == NULL)
		return;
	hasher_free(&(*r)->hasher);
	close((*r)->fd);
	free((*r)->block);
	free(*r);
	*r = NULL;
}

uint64_t
store_rehash_bytes(const struct store_rehash *r)
{
	return r->at;
}

int
store_rehash_fd(const struct store_rehash *r)
{
	return r->fd;
}

/* The read that meets the end leaves the block as it was. */
const char *
store_rehash_whole(const struct store_rehash *r, size_t *n)
{
	*n = (size_t)r->at;
	return r->at > 0 && r->at == r->first ? (const char *)r->block : NULL;
}

/* What of the block is in memory already; 0 also where the file system cannot say. */
static size_t
read_cached(struct store_rehash *r, size_t want)
{
	struct iovec iov = {r->block, want};
	ssize_t n = preadv2(r->fd, &iov, 1, (off_t)r->at, RWF_NOWAIT);

	return n > 0 ? (size_t)n : 0;
}

void
store_rehash_ahead(struct store_rehash *r)
{
	unsigned char byte;
	struct iovec iov = {&byte, 1};

	if (r->at > 0 || preadv2(r->fd, &iov, 1, 0, RWF_NOWAIT) >= 0)
		return;
	r->ours = errno == EAGAIN && posix_fadvise(r->fd, 0, BLOCK, POSIX_FADV_WILLNEED) == 0;
}

/* -1 with errno; 0 at the end. */
static ssize_t
read_block(struct store_rehash *r, size_t want)
{
	size_t cached = r->ours && r->at < BLOCK ? 0 : read_cached(r, want);
	ssize_t n;

	if (cached == want)
		return (ssize_t)cached;
	do
		n = pread(r->fd, r->block + cached, want - cached, (off_t)(r->at + cached));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -1;
	if (n > 0)
		(void)posix_fadvise(r->fd, (off_t)(r->at + cached), n, POSIX_FADV_DONTNEED);
	return (ssize_t)cached + n;
}

static enum store_rehash_result
judge(struct store_rehash *r)
{
	struct digest got;

	hasher_final(r->hasher, &got);
	return digest_equal(&got, &r->digest) ? STORE_REHASH_RIGHT : STORE_REHASH_WRONG;
}

enum store_rehash_result
store_rehash_step(struct store_rehash *r, size_t max)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	ssize_t n;

	if (r->block == NULL)
		r->block = xmalloc(BLOCK);
	max = max < page ? page : max / page * page; /* half a page cannot be given back */
	for (size_t done = 0; done < max; done += (size_t)n) {
		n = read_block(r, max - done < BLOCK ? max - done : BLOCK);
		if (n < 0)
			return STORE_REHASH_FAILED;
		if (n == 0)
			return judge(r);
		hasher_update(r->hasher, r->block, (size_t)n);
		r->first = r->at == 0 ? (uint64_t)n : r->first;
		r->at += (uint64_t)n;
	}
	return STORE_REHASH_MORE;
}
