/* Looking at the store as it is on disk, for gc: what is in a folder, what belongs there, how much
 * room it takes. Nothing here goes by the index. */
#ifndef STORE_SCAN_H
#define STORE_SCAN_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "store.h"

/* Which folder: objects itself, objects/<algorithm>, or objects/<algorithm>/<two hex>. */
enum store_level { STORE_OBJECTS, STORE_ALGORITHM, STORE_BUCKET };

struct store_entry {
	char name[NAME_MAX + 1];
	bool belongs;         /* an object's regular file in its place, or a folder of the store's own */
	struct digest digest; /* an object's */
	uint64_t size;        /* bytes */
	uint64_t disk;        /* bytes of its blocks */
	int64_t written;      /* seconds since 1970: when its bytes were written last (mtime) … */
	int64_t changed;      /* … and when anything of it changed (ctime), which nobody can set back */
};

struct store_folder;

/* NULL with errno; ENOENT: there is no such folder. Owned by the caller. */
struct store_folder *store_folder_open(
    struct store *s, enum store_level level, uint8_t algo, uint8_t first);
void store_folder_close(struct store_folder **f);
/* False: there is no more (or reading failed: logged). What vanishes meanwhile is left out. */
bool store_folder_next(struct store_folder *f, struct store_entry *e)
    __attribute__((warn_unused_result));
/* Removes an entry, folders with all that is in them but not what is mounted there, at most `*budget`
 * entries, which it counts down. False with errno; EAGAIN: the budget is used up. */
bool store_folder_remove(struct store_folder *f, const char *name, unsigned *budget)
    __attribute__((warn_unused_result));

/* The same for what is in the folder of parts and is a folder. */
bool store_remove_part_folder(struct store *s, const char *name, unsigned *budget)
    __attribute__((warn_unused_result));

/* Bytes of the object's, or the part's, blocks. False with errno; then they are 0. */
bool store_object_disk(struct store *s, const struct digest *d, uint64_t *bytes);
bool store_part_disk(struct store *s, const char *name, uint64_t *bytes);
/* Of an open file. What its file system has not counted yet, it will: at least its length. */
bool store_file_disk(int fd, uint64_t *bytes) __attribute__((warn_unused_result));
/* When an object was fetched, as its file tells: seconds since 1970; now, when that is not in the past. */
int64_t store_fetched_at(const struct stat *st);
/* Is there the folder for objects like this one? */
bool store_has_folder(struct store *s, const struct digest *d);
/* Of the index's files; and of the folders, for which some hundred are looked at. */
uint64_t store_index_disk(struct store *s);
uint64_t store_folders_disk(struct store *s);
/* Bytes that the file system has left for us; UINT64_MAX when it cannot tell. */
uint64_t store_free(struct store *s);

/* A small file beside the index, for what gc knows at a clean end and wants to know again at the next
 * start; store_close_cleanly() brings it to the disk. Loading removes it, so that it is never believed twice. False: there is none of this size. */
bool store_save_note(struct store *s, const void *data, size_t size)
    __attribute__((warn_unused_result));
bool store_load_note(struct store *s, void *data, size_t size) __attribute__((warn_unused_result));

#endif
