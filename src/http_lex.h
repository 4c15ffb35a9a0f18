/* The words of a complete request head, found by llhttp: the one module with llhttp.h, whose names
 * collide with those of http.h. What the words mean, and whether they are allowed, is http.c's.
 */
#ifndef HTTP_LEX_H
#define HTTP_LEX_H

#include <stddef.h>

/* A piece of the text that was read: borrowed, not NUL-terminated. */
struct http_word {
	char *at;
	size_t len;
};

struct http_line {
	struct http_word name, value; /* the value may have white space at its end */
};

struct http_words {
	struct http_word method, target;
	struct http_line *lines; /* the caller's array … */
	size_t max;              /* … and how many it holds */
	size_t n;                /* how many fields there are */
};

/* Reads the complete head of `len` bytes at `text`, with lines and max set in *w. Returns NULL,
 * or why it is not a head (static text). */
const char *http_lex(char *text, size_t len, struct http_words *w)
    __attribute__((warn_unused_result));

#endif
