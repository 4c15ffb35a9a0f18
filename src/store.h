/* The store: object files and part files below dataPath. Names, opening, renaming, walking; no
 * policy, and no knowledge of the index. Every name is made from a struct digest, so no path
 * comes from the wire.
 *
 *   objects/<algorithm>/<first two hex>/<hex>   the bytes, exactly
 *   parts/<algorithm>:<hex>.<lease id, 16 hex>  fills in flight
 *   index/                                      the index, and `state` (boot id, clean or not)
 *   lock                                        held while a cache runs on this folder
 */
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "digest.h"

struct store;

/* Takes the lock on `path` (folder made when missing). Returns a descriptor to keep, inherited
 * over fork: the lock lasts until the last process that has it is gone. -1 with errno;
 * EWOULDBLOCK: another cache has it and *holder is its pid (0: not known). Waits up to
 * `wait_ms` for a holder that is already dead to let go. */
int store_lock(const char *path, unsigned wait_ms, pid_t *holder)
    __attribute__((warn_unused_result));

/* Opens the folders below `path`, making what is missing. On a read-only file system it opens
 * what is there. NULL: said why in the log. Owned by the caller. */
struct store *store_open(const char *path);
void store_close(struct store **s);
/* dataPath/index, borrowed. */
const char *store_index_dir(const struct store *s);

/* A descriptor (O_RDONLY, close-on-exec), owned by the caller, or -1 with errno. ENOENT: there
 * is none, or what has its name is no regular file. *size in bytes, when not NULL. */
int store_open_object(struct store *s, const struct digest *d, uint64_t *size)
    __attribute__((warn_unused_result));
/* The same if the name is still that of this open file; nothing happens, and true, when it is another's. */
bool store_remove_this_object(struct store *s, const struct digest *d, int fd);
/* True also when there was none. False with errno. */
bool store_remove_object(struct store *s, const struct digest *d);

/* A new, empty part, O_RDWR. -1 with errno (EEXIST: it is there already). */
int store_create_part(struct store *s, const struct digest *d, uint64_t id)
    __attribute__((warn_unused_result));
/* Reserves `size` bytes for the whole part without making it longer (FALLOC_FL_KEEP_SIZE). A
 * file system that cannot reserve is not an error. False with errno: ENOSPC, EDQUOT or EFBIG
 * say that they are not to be had; the part stays, and is the caller's to remove. */
bool store_reserve(int part_fd, uint64_t size) __attribute__((warn_unused_result));
/* While `keep`, store_inherit_part() has nothing of it: what is in it means something to its leader only. False
 * with errno. */
bool store_keep_to_leader(int part_fd, bool keep) __attribute__((warn_unused_result));
/* For a follower: O_RDONLY. */
int store_open_part(struct store *s, const struct digest *d, uint64_t id)
    __attribute__((warn_unused_result));
/* A dead lease's part becomes `id`'s: renamed and opened O_RDWR. -1 with errno (ENOENT: there
 * is none; EACCES: it was kept to its leader). */
int store_inherit_part(struct store *s, const struct digest *d, uint64_t dead_id, uint64_t id)
    __attribute__((warn_unused_result));
/* The part becomes the object (rename; makes the two-hex folder). False with errno. Not synced:
 * after a crash of the machine every object is hashed again before it is served. */
bool store_publish_part(struct store *s, const struct digest *d, uint64_t id)
    __attribute__((warn_unused_result));
/* True also when there was none. False with errno. */
bool store_remove_part(struct store *s, const struct digest *d, uint64_t id);

/* Calls `each` for every file in parts/; `known` is false for a name that is no part's (then d
 * and id are unset). Returns how many it saw, -1 with errno. `each` may remove the file that it
 * is called for. */
typedef void store_part_fn(
    const char *name, bool known, const struct digest *d, uint64_t id, void *arg);
int store_each_part(struct store *s, store_part_fn *each, void *arg);
/* Removes what store_each_part() named: a file, or an empty folder. False with errno. */
bool store_remove_part_file(struct store *s, const char *name);

/* Writes a block to a file without a name. False with errno. */
bool store_is_writable(struct store *s) __attribute__((warn_unused_result));

/* The mark of how the last run ended. */
enum store_state {
	STORE_NEW,     /* no mark: a new folder, or one from elsewhere */
	STORE_CLEAN,   /* the last run ended cleanly */
	STORE_CRASHED, /* it did not, but the machine has not booted since: the index is whole */
	STORE_MACHINE_DIED, /* it did not, and this is another boot, or a copy: do not open the index */
};
enum store_state store_read_state(struct store *s);
/* Writes the mark: running (clean = false) or ended cleanly; durable when it returns true. */
bool store_write_state(struct store *s, bool clean) __attribute__((warn_unused_result));
/* Is there a file of it? */
bool store_has_index(struct store *s);
/* Removes the index's files (not the mark): the files are the truth and it is made again. */
bool store_drop_index(struct store *s) __attribute__((warn_unused_result));
/* The same, but the index itself is renamed to index/damaged.<seconds> for whoever wants to look at it;
 * the last STORE_DAMAGED_KEPT of those are kept. */
enum { STORE_DAMAGED_KEPT = 2 };
bool store_quarantine_index(struct store *s) __attribute__((warn_unused_result));
/* Whether there may be objects without a record, because the index is being made again: a file that
 * outlives the process. False with errno. */
bool store_set_incomplete(struct store *s, bool incomplete) __attribute__((warn_unused_result));
bool store_is_incomplete(struct store *s);
/* Writes all of the file system to its disk, objects included (they are not synced one by one), and then the mark
 * of a clean end. Calls `beat` all the while. False: there is no such mark; said why in the log. */
bool store_close_cleanly(struct store *s, void (*beat)(void *arg), void *arg)
    __attribute__((warn_unused_result));

#endif
