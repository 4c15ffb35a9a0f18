/* What is stored, in people's words (registry-cache --list). A cache may run on the store. */
#ifndef LIST_H
#define LIST_H

/* Exit statuses (registry-cache(8)). */
enum list_result {
	LIST_DONE = 0,
	LIST_IMPOSSIBLE = 3, /* there is no index, or it cannot be read */
};

/* Writes to standard output a line for each tag that was asked for and whose manifest is here, in the order
 * of their names: the name, the manifest's digest, its media type, and when it was asked for last, with tabs
 * between them. */
enum list_result list_run(const char *data_path) __attribute__((warn_unused_result));

#endif
