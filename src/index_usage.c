/* The usage array: a file that only grows, mapped as far as it reaches. A slot beyond the
 * mapping makes the process look at the file's size and map it again, so that no access is ever
 * past the end. */
#include "index_usage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "xalloc.h"

enum {
	SLOT_BYTES = sizeof(int64_t),
	GROW_BYTES = 64 * 1024, /* 8192 objects at a time */
};

struct index_usage {
	int fd;
	_Atomic int64_t *slots; /* NULL: nothing is mapped */
	size_t length;           /* bytes mapped */
};

/* -1 with errno. */
static off_t
file_size(const struct index_usage *u)
{
	struct stat st;

	return fstat(u->fd, &st) == 0 ? st.st_size : -1;
}

static void
unmap(struct index_usage *u)
{
	if (u->slots != NULL)
		munmap((void *)u->slots, u->length);
	u->slots = NULL;
	u->length = 0;
}

/* Maps what the file now has, when that is more than is mapped. */
static void
map_again(struct index_usage *u)
{
	off_t size = file_size(u);
	void *p;

	if (size <= 0 || (size_t)size <= u->length)
		return;
	unmap(u);
	p = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, u->fd, 0);
	if (p == MAP_FAILED) {
		log_error("cannot map the usage array, %lld bytes: %m", (long long)size);
		return;
	}
	u->slots = p;
	u->length = (size_t)size;
}

/* NULL: the file does not reach so far. */
static _Atomic int64_t *
slot_at(struct index_usage *u, uint32_t slot)
{
	size_t end = ((size_t)slot + 1) * SLOT_BYTES;

	if (end > u->length)
		map_again(u);
	return end <= u->length ? &u->slots[slot] : NULL;
}

struct index_usage *
index_usage_open(const char *dir)
{
	struct index_usage *u = xcalloc(1, sizeof(*u));
	char *path = xasprintf("%s/usage", dir);

	u->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (u->fd < 0) {
		log_error("cannot open %s: %m", path);
		free(u);
		u = NULL;
	} else {
		map_again(u);
	}
	free(path);
	return u;
}

void
index_usage_close(struct index_usage **u)
{
	if (*u == NULL)
		return;
	unmap(*u);
	close((*u)->fd);
	free(*u);
	*u = NULL;
}

bool
index_usage_reserve(struct index_usage *u, uint32_t slot)
{
	off_t end = ((off_t)slot + 1) * SLOT_BYTES, size = file_size(u);
	int rc;

	if (size < 0)
		return false;
	if (end <= size)
		return true;
	end = (end + GROW_BYTES - 1) / GROW_BYTES * GROW_BYTES;
	rc = posix_fallocate(u->fd, size, end - size);
	errno = rc;
	return rc == 0;
}

void
index_usage_set(struct index_usage *u, uint32_t slot, int64_t when_ms)
{
	_Atomic int64_t *p = slot_at(u, slot);

	if (p != NULL)
		atomic_store_explicit(p, when_ms, memory_order_relaxed);
}

int64_t
index_usage_get(struct index_usage *u, uint32_t slot)
{
	_Atomic int64_t *p = slot_at(u, slot);

	return p != NULL ? atomic_load_explicit(p, memory_order_relaxed) : 0;
}

/* Was this slot set before the clock was? One that is younger than that may be either, if the clock was set back. */
static bool
is_of_before(int64_t used, int64_t by_ms, int64_t now_ms, int64_t young_ms)
{
	if (used == 0)
		return false;
	return by_ms > 0 ? used <= now_ms - by_ms : used > now_ms || used < now_ms - young_ms;
}

/* One that somebody sets meanwhile stays as it is set. */
void
index_usage_shift(struct index_usage *u, int64_t by_ms, int64_t now_ms, int64_t young_ms)
{
	map_again(u);
	for (size_t i = 0; i < u->length / SLOT_BYTES; i++) {
		int64_t used = atomic_load_explicit(&u->slots[i], memory_order_relaxed);

		if (is_of_before(used, by_ms, now_ms, young_ms))
			atomic_compare_exchange_strong(&u->slots[i], &used, used + by_ms);
	}
}

int
index_usage_dup(const struct index_usage *u)
{
	return fcntl(u->fd, F_DUPFD_CLOEXEC, 0);
}
