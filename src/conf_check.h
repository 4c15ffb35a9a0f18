/* What options have to do with each other. */
#ifndef CONF_CHECK_H
#define CONF_CHECK_H

#include "conf.h"
#include "conf_error.h"
#include "conf_yaml.h"

/* Notes what is missing or does not go together in the whole file: `root` is its tree. */
void conf_check(const struct conf_node *root, struct conf_errors *errors);
/* Notes a $groupN in the rule's host that its regex does not capture. `item` is the rule in the
 * tree, `label` begins its options' names in messages. Fields that could not be read are NULL, and
 * let be. */
void conf_check_rule(const struct conf_rule *rule, const struct conf_node *item, const char *label,
    struct conf_errors *errors);

#endif
