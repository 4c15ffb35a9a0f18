/* The PROXY protocol, versions 1 and 2. Sections are those of haproxy's doc/proxy-protocol.txt. */
#include "proxy_protocol.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum {
	V2_FIXED = 16, /* signature, version and command, family, length */
	V4_BYTES = 12,
	V6_BYTES = 36,
	UNIX_BYTES = 216,
	TLV_HEAD = 3,
	TLV_CRC32C = 0x03,
	TLV_SSL = 0x20,
	SSL_BYTES = 5,   /* of its fixed part: a byte of flags, and how the certificate was verified */
	SSL_CLIENT = 1,  /* the flag: the connection is TLS (section 2.2.6) */
	FIELDS = 4, /* source, destination, source port, destination port */
};

static const uint8_t signature[] = {
    0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
static const char v1_start[] = "PROXY ";

static enum proxy_result
bad(struct proxy_head *head, const char *why)
{
	head->error = why;
	return PROXY_BAD;
}

static void
set_client(struct proxy_head *head, int family, const void *address, uint16_t port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&head->client;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&head->client;

	head->client.ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		memcpy(&in->sin_addr, address, sizeof(in->sin_addr));
		in->sin_port = port;
	} else {
		memcpy(&in6->sin6_addr, address, sizeof(in6->sin6_addr));
		in6->sin6_port = port;
	}
}

/* --- version 1 (section 2.1) ------------------------------------------------------------------ */

/* A port without leading zeros. -1: it is none. */
static int
read_port(const char *text)
{
	size_t n = strlen(text);
	long port;

	if (n < 1 || n > 5 || strspn(text, "0123456789") != n || (n > 1 && *text == '0'))
		return -1;
	port = strtol(text, NULL, 10);
	return port <= UINT16_MAX ? (int)port : -1;
}

/* Exactly FIELDS fields, exactly one space between them. */
static bool
split(char *text, char *fields[FIELDS])
{
	for (int i = 0; i < FIELDS; i++) {
		char *space = strchr(text, ' ');

		fields[i] = text;
		if ((space != NULL) != (i < FIELDS - 1))
			return false;
		if (space != NULL) {
			*space = '\0';
			text = space + 1;
		}
	}
	return true;
}

static enum proxy_result
read_v1_addresses(struct proxy_head *head, int family, char *text)
{
	uint8_t source[16], destination[16];
	char *fields[FIELDS];
	int port;

	if (!split(text, fields))
		return bad(head, "a PROXY line with other than four fields");
	if (inet_pton(family, fields[0], source) != 1 ||
	    inet_pton(family, fields[1], destination) != 1)
		return bad(head, "a PROXY line with an address that is none");
	port = read_port(fields[2]);
	if (port < 0 || read_port(fields[3]) < 0)
		return bad(head, "a PROXY line with a port that is none");
	set_client(head, family, source, htons((uint16_t)port));
	return PROXY_OK;
}

/* `text` is the line without "PROXY " and CRLF. */
static enum proxy_result
read_v1_line(struct proxy_head *head, char *text)
{
	if (strncmp(text, "TCP4 ", 5) == 0)
		return read_v1_addresses(head, AF_INET, text + 5);
	if (strncmp(text, "TCP6 ", 5) == 0)
		return read_v1_addresses(head, AF_INET6, text + 5);
	if (strcmp(text, "UNKNOWN") == 0 || strncmp(text, "UNKNOWN ", 8) == 0)
		return PROXY_OK;
	return bad(head, "a PROXY line of an unknown protocol");
}

static enum proxy_result
read_v1(const uint8_t *data, size_t n, struct proxy_head *head)
{
	size_t most = n < PROXY_V1_MAX ? n : PROXY_V1_MAX, start = strlen(v1_start);
	const uint8_t *cr = memchr(data, '\r', most);
	size_t length = cr != NULL ? (size_t)(cr - data) : most;
	char line[PROXY_V1_MAX + 1];

	if (memchr(data, '\n', length) != NULL || memchr(data, '\0', length) != NULL)
		return bad(head, "a PROXY line with a character that does not belong there");
	if (cr == NULL || cr + 1 == data + most)
		return most < PROXY_V1_MAX ? PROXY_MORE : bad(head, "a PROXY line that is too long");
	if (cr[1] != '\n')
		return bad(head, "a PROXY line that ends without CRLF");
	head->length = length + 2;
	if (length < start)
		return bad(head, "a PROXY line that is too short");
	memcpy(line, data, length);
	line[length] = '\0';
	return read_v1_line(head, line + start);
}

/* --- version 2 (section 2.2) ------------------------------------------------------------------ */

/* RFC 4960 appendix B; `skip` is where four zeros are taken to be. */
static uint32_t
crc32c(const uint8_t *data, size_t n, size_t skip)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < n; i++) {
		crc ^= i >= skip && i < skip + 4 ? 0 : data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return ~crc;
}

static uint32_t
big_endian(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The vectors after the addresses, from `at` on, must fill the head, and a checksum must be right. */
static enum proxy_result
check_vectors(const uint8_t *data, size_t at, struct proxy_head *head)
{
	while (at < head->length) {
		size_t size;

		if (head->length - at < TLV_HEAD)
			return bad(head, "a PROXY head with a vector that is cut");
		size = (size_t)data[at + 1] << 8 | data[at + 2];
		if (head->length - at - TLV_HEAD < size)
			return bad(head, "a PROXY head with a vector that is cut");
		if (data[at] == TLV_CRC32C &&
		    (size != 4 ||
			crc32c(data, head->length, at + TLV_HEAD) !=
			    big_endian(data + at + TLV_HEAD)))
			return bad(head, "a PROXY head with a wrong checksum");
		if (data[at] == TLV_SSL && size < SSL_BYTES)
			return bad(head, "a PROXY head whose vector on TLS is too short");
		if (data[at] == TLV_SSL)
			head->tls = (data[at + TLV_HEAD] & SSL_CLIENT) != 0;
		at += TLV_HEAD + size;
	}
	return PROXY_OK;
}

/* How many bytes addresses of this family take; -1: there is no such family. */
static int
bytes_of_addresses(uint8_t family, uint8_t protocol)
{
	static const int bytes[] = {0, V4_BYTES, V6_BYTES, UNIX_BYTES};

	if (family > 3 || protocol > 2)
		return -1;
	return family == 0 || protocol == 0 ? 0 : bytes[family];
}

/* Datagrams and Unix sockets are right, but say nothing that we could use. */
static enum proxy_result
read_v2_addresses(const uint8_t *data, struct proxy_head *head)
{
	uint8_t family = data[13] >> 4, protocol = data[13] & 0xf;
	const uint8_t *addresses = data + V2_FIXED;
	int bytes = bytes_of_addresses(family, protocol);
	uint16_t port;

	if (bytes < 0)
		return bad(head, "a PROXY head of an unknown family");
	if (bytes == 0)
		return PROXY_OK; /* whatever follows is to be ignored */
	if (head->length < V2_FIXED + (size_t)bytes)
		return bad(head, "a PROXY head that is too short for its addresses");
	if (protocol == 1 && bytes != UNIX_BYTES) {
		memcpy(&port, addresses + (family == 1 ? 8 : 32), sizeof(port));
		set_client(head, family == 1 ? AF_INET : AF_INET6, addresses, port);
	}
	return check_vectors(data, V2_FIXED + (size_t)bytes, head);
}

static enum proxy_result
read_v2(const uint8_t *data, size_t n, struct proxy_head *head)
{
	enum proxy_result result = PROXY_OK;

	if (n > 12 && (data[12] >> 4 != 2 || (data[12] & 0xf) > 1))
		return bad(head, "a PROXY head of an unknown version or command");
	if (n < V2_FIXED)
		return PROXY_MORE;
	head->length = V2_FIXED + ((size_t)data[14] << 8 | data[15]);
	if (head->length > PROXY_HEAD_MAX)
		return bad(head, "a PROXY head that is too long");
	if (n < head->length)
		return PROXY_MORE;
	if ((data[12] & 0xf) == 1) /* LOCAL: its block is skipped */
		result = read_v2_addresses(data, head);
	if (result != PROXY_OK)
		*head = (struct proxy_head){.client.ss_family = AF_UNSPEC,
		    .length = head->length,
		    .error = head->error};
	return result;
}

/* Is what is there the beginning of `whole`, or begins with it? */
static bool
begins(const uint8_t *data, size_t n, const void *whole, size_t size)
{
	return memcmp(data, whole, n < size ? n : size) == 0;
}

enum proxy_result
proxy_parse(const uint8_t *data, size_t n, struct proxy_head *head)
{
	*head = (struct proxy_head){.client.ss_family = AF_UNSPEC};
	if (n == 0)
		return PROXY_MORE;
	if (begins(data, n, signature, sizeof(signature)))
		return n <= 12 ? PROXY_MORE : read_v2(data, n, head);
	if (begins(data, n, v1_start, strlen(v1_start)))
		return n < strlen(v1_start) ? PROXY_MORE : read_v1(data, n, head);
	return bad(head, "no PROXY head");
}
