/* Basic credentials (RFC 7617): name and password as an Authorization value, and back. */
#ifndef HTTP_BASIC_H
#define HTTP_BASIC_H

#include <stdbool.h>

/* With their NULs. A password may be a token of a cloud. */
enum { HTTP_BASIC_NAME = 256, HTTP_BASIC_PASSWORD = 8192 };

struct http_basic {
	char name[HTTP_BASIC_NAME];
	char password[HTTP_BASIC_PASSWORD];
};

/* Does this Authorization value (NULL: none) use the scheme? "Basic", in any case. */
bool http_is_scheme(const char *authorization, const char *scheme);
/* False: it is no well-formed Basic credential within the limits. The caller wipes *out. */
bool http_basic_read(const char *authorization, struct http_basic *out)
    __attribute__((warn_unused_result));
/* "Basic …": new, owned by the caller, who wipes it. */
char *http_basic_write(const char *name, const char *password);

#endif
