/* From the tree of a file to struct conf, by the table of options. */
#ifndef CONF_READ_H
#define CONF_READ_H

#include "conf.h"
#include "conf_error.h"
#include "conf_yaml.h"

/* Fills the all-zero `c` with defaults and what `root` says. Every mistake is noted; then `c` is
 * half filled, and good for conf_free() only. `arena` is the tree's. */
void conf_read(
    struct conf *c, const struct conf_node *root, struct arena *arena, struct conf_errors *errors);

#endif
