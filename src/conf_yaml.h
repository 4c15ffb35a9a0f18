/* YAML text to a tree of maps, lists and scalars with their positions; the one file with
 * libfyaml.h. Only what a configuration needs: one document of at most 1 MiB, no anchors, aliases,
 * merge keys or tags. */
#ifndef CONF_YAML_H
#define CONF_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "arena.h"
#include "conf_error.h"

enum {
	CONF_MAX_BYTES = 1 << 20,
	CONF_MAX_NODES = 1 << 16,
	CONF_MAX_DEPTH = 32,
};

enum conf_node_kind { CONF_SCALAR, CONF_LIST, CONF_MAP };

/* Everything lives in the arena of conf_yaml_parse(). */
struct conf_node {
	enum conf_node_kind kind;
	struct conf_mark at;
	const char *text;        /* scalar: one line without control characters */
	bool null;               /* scalar: nothing, ~ or null, not quoted */
	bool bad;                /* a mistake was already noted here: say no more about it */
	struct conf_node *first; /* of a map its keys, of a list its items */
	struct conf_node *last;
	struct conf_node *next;  /* sibling */
	struct conf_node *value; /* of a map's key; NULL only when `bad` */
	struct conf_node *parent;
};

/* Reads `len` bytes. NULL: not YAML that we take, and why was noted. A tree may come with mistakes
 * noted too (tags, duplicate keys and the like): then it is good for finding more of them. An empty
 * text is a null scalar. */
struct conf_node *conf_yaml_parse(
    const char *text, size_t len, struct arena *arena, struct conf_errors *errors);

enum conf_found {
	CONF_FOUND,
	CONF_ABSENT,
	CONF_BROKEN, /* what would hold it is no map, or is bad: a mistake was noted there */
};

/* Looks for the dotted `path` below the map `root`. *at is the last key on the way that is there,
 * or `root`. */
enum conf_found conf_node_find(
    const struct conf_node *root, const char *path, const struct conf_node **at);
const char *conf_node_kind_name(const struct conf_node *n);

#endif
