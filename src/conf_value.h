/* One value: text to a field of a struct and back, by the type and limits of its row in the table.
 */
#ifndef CONF_VALUE_H
#define CONF_VALUE_H

#include <stdbool.h>

#include "conf_table.h"

enum { CONF_WRONG_SIZE = 192 };

/* Is it read from one scalar? The functions below but conf_value_expected() are for those only. */
bool conf_is_scalar(const struct conf_option *o);

/* Reads `text` into `field`; a string that was there is freed. False: `field` is as it was and
 * wrong says what is the matter ("has no unit"). */
bool conf_value_read(const struct conf_option *o, const char *text, void *field,
    char wrong[CONF_WRONG_SIZE]) __attribute__((warn_unused_result));
/* Sets the default of a field that is all zero. */
void conf_value_default(const struct conf_option *o, void *field);
/* Frees what the field holds. */
void conf_value_free(const struct conf_option *o, void *field);
/* New text, owned by the caller; NULL: nothing was given and there is no default. */
char *conf_value_write(const struct conf_option *o, const void *field);
/* What may be written there ("a number from 1 to 4096"): new, owned by the caller. */
char *conf_value_expected(const struct conf_option *o);

#endif
