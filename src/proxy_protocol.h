/* The PROXY protocol: what a load balancer says of a client before the client's own bytes. Versions 1
 * and 2 of haproxy's doc/proxy-protocol.txt ("the text" below), strictly. No I/O. */
#ifndef PROXY_PROTOCOL_H
#define PROXY_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
	PROXY_V1_MAX = 107,   /* bytes of a line with its CRLF (section 2.1) */
	PROXY_HEAD_MAX = 2048, /* what we take of version 2: no sender comes near it */
};

enum proxy_result {
	PROXY_MORE, /* right so far; all that is there belongs to it, and more is to come */
	PROXY_OK,
	PROXY_BAD,
};

struct proxy_head {
	struct sockaddr_storage client; /* AF_UNSPEC: who is connected is who it is */
	size_t length;                  /* bytes that belong to the head */
	bool tls;                       /* the client speaks TLS to who sent this (version 2 only) */
	const char *error;              /* of PROXY_BAD (static) */
};

/* Reads the `n` bytes that have come. */
enum proxy_result proxy_parse(const uint8_t *data, size_t n, struct proxy_head *head)
    __attribute__((warn_unused_result));

#endif
