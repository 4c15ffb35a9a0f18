/* Percent-encoding (RFC 3986 section 2.1) and the parts of a query. For whoever reads targets and
 * forms; no memory, no I/O. */
#ifndef PIECE_H
#define PIECE_H

#include <stdbool.h>
#include <stddef.h>

/* A piece of a text: borrowed, not NUL-terminated. */
struct piece {
	const char *at;
	size_t len;
};

bool piece_is(struct piece p, const char *word);
/* The byte at `p`, decoded when it is a well-formed escape; *used is 1 or 3. */
unsigned char piece_decoded(const char *p, const char *end, size_t *used);
/* Is the text, decoded, this word? */
bool piece_decodes_to(struct piece p, const char *word);
/* Decodes into `out`, `size` bytes with the NUL; false: it does not fit, or has a NUL or other control
 * byte in it. `plus`: "+" is a space, as forms have it. */
bool piece_decode(struct piece p, bool plus, char *out, size_t size)
    __attribute__((warn_unused_result));
/* The next of what is joined by "&"; *rest ("": no more, after which NULL) is what is behind it. */
bool piece_parameter(const char **rest, struct piece *name, struct piece *value)
    __attribute__((warn_unused_result));

#endif
