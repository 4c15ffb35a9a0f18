/* The grammar of hosts and addresses, and what a rule's regex and host must have in common. */
#ifndef CONF_HOST_H
#define CONF_HOST_H

#include <stddef.h>

/* Each returns NULL when the text is right, or what is wrong with it (static: "has a port that is
 * …"). */

/* A registry's host[:port] or [v6][:port]. */
const char *conf_check_host(const char *text) __attribute__((warn_unused_result));
/* The same, with $group1 to $group9 anywhere. */
const char *conf_check_host_pattern(const char *text) __attribute__((warn_unused_result));
/* To listen on: host:port, [v6]:port or :port; port 0 lets the system choose. */
const char *conf_check_address(const char *text) __attribute__((warn_unused_result));

/* The same, or unix:/path. */
const char *conf_check_socket(const char *text) __attribute__((warn_unused_result));

/* The highest N of a $groupN in a host pattern; 0: it has none. */
unsigned conf_highest_group(const char *pattern);
/* How many groups a regex captures. -1: it is none, and wrong[size] says why. */
int conf_regex_groups(const char *regex, char *wrong, size_t size)
    __attribute__((warn_unused_result));

#endif
