/* Fuzz target: PROXY heads. What is read does not depend on how the bytes came, and nothing beyond
 * the head is looked at. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "network.h"
#include "proxy_protocol.h"

#define MUST(what) do { if (!(what)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of a copy of exactly `n` bytes. */
static enum proxy_result
parse(const uint8_t *data, size_t n, struct proxy_head *head)
{
	uint8_t *copy = malloc(n + (n == 0));
	enum proxy_result r;

	MUST(copy != NULL);
	memcpy(copy, data, n);
	r = proxy_parse(copy, n, head);
	free(copy);
	return r;
}

static void
check(const struct proxy_head *head, enum proxy_result r, size_t n)
{
	MUST((r == PROXY_BAD) == (head->error != NULL));
	MUST(r != PROXY_OK || (head->length > 0 && head->length <= n && head->length <= PROXY_HEAD_MAX));
	MUST(r == PROXY_OK || (head->client.ss_family == AF_UNSPEC && !head->tls));
	MUST(head->client.ss_family == AF_UNSPEC || head->client.ss_family == AF_INET ||
	    head->client.ss_family == AF_INET6);
	MUST(r != PROXY_MORE || n < PROXY_HEAD_MAX);
}

/* More bytes never change what fewer have settled. */
static void
check_pieces(const uint8_t *data, size_t size, const struct proxy_head *whole, enum proxy_result r)
{
	for (size_t n = 0; n < size; n++) {
		struct proxy_head head;
		enum proxy_result piece = parse(data, n, &head);

		check(&head, piece, n);
		MUST(piece == PROXY_MORE || piece == r);
		MUST(piece != PROXY_OK ||
		    (head.length == whole->length &&
			memcmp(&head.client, &whole->client, sizeof(head.client)) == 0 &&
			head.tls == whole->tls));
		MUST(piece != PROXY_OK || n >= whole->length);
		MUST(r != PROXY_OK || piece == PROXY_OK || n < whole->length);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy_head head;
	struct network net;
	enum proxy_result r = parse(data, size, &head);
	char *text = strndup((const char *)data, size), client[NETWORK_CLIENT_SIZE];

	check(&head, r, size);
	check_pieces(data, size < 4096 ? size : 4096, &head, r);
	MUST(text != NULL);
	if (network_parse(text, &net) == NULL && head.client.ss_family != AF_UNSPEC)
		(void)network_has(&net, (const struct sockaddr *)&head.client);
	MUST(strlen(network_client(text, client)) < NETWORK_CLIENT_SIZE);
	free(text);
	return 0;
}
