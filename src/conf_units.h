/* Numbers with units, as people write them: sizes, rates, durations. */
#ifndef CONF_UNITS_H
#define CONF_UNITS_H

#include <stdint.h>

/* Each returns NULL and stores the value, or says what is wrong with the text (static: "has no
 * unit"). */
const char *conf_parse_number(const char *text, uint64_t *value)
    __attribute__((warn_unused_result));
/* "1TB", "512MiB", "4096" (bytes). */
const char *conf_parse_size(const char *text, uint64_t *bytes) __attribute__((warn_unused_result));
/* A size with or without "/s". */
const char *conf_parse_rate(const char *text, uint64_t *bytes) __attribute__((warn_unused_result));
/* "1m30s", "500ms", "2d"; units from large to small, each once. */
const char *conf_parse_duration(const char *text, uint64_t *ms) __attribute__((warn_unused_result));

/* New text, owned by the caller, that parses to exactly this value. */
char *conf_format_size(uint64_t bytes);
char *conf_format_rate(uint64_t bytes);
char *conf_format_duration(uint64_t ms);

#endif
