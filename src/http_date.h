/* Times in HTTP fields: HTTP-date in its three forms (RFC 9110 section 5.6.7), Retry-After (section
 * 10.2.3). Pure. */
#ifndef HTTP_DATE_H
#define HTTP_DATE_H

#include <stdbool.h>
#include <stdint.h>

/* Seconds since 1970. False: it is no date. */
bool http_parse_date(const char *value, int64_t *seconds) __attribute__((warn_unused_result));
/* How many seconds to wait, 0 for a date that has passed. `now` is what the sender's clock says (its
 * Date), or ours: seconds since 1970. -1: the value is neither a number nor a date. */
int64_t http_parse_retry_after(const char *value, int64_t now);

#endif
