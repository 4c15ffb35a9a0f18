/* PROXY heads and networks. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <CUnit/CUnit.h>

#include "conn.h"
#include "network.h"
#include "proxy_protocol.h"
#include "suites.h"

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define V4 "\xc0\x00\x02\x01\xc0\x00\x02\x02\x04\xd2\x1b\x58"
#define V6 "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01" \
	   "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01" \
	   "\x04\xd2\x1b\x58"

struct sample {
	const char *bytes;
	size_t n;
	const char *client; /* "-": who is connected; NULL: it is wrong */
};
#define S(bytes, client) \
	{ \
		bytes, sizeof(bytes) - 1, client \
	}

static const struct sample samples[] = {
    S("PROXY TCP4 192.0.2.1 192.0.2.2 1234 7000\r\n", "192.0.2.1"),
    S("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", "255.255.255.255"),
    S("PROXY TCP6 2001:DB8::1 ::1 1234 7000\r\n", "2001:db8::1"),
    S("PROXY UNKNOWN\r\n", "-"),
    S("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
	"-"),
    S("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 655351\r\n",
	NULL),
    S("PROXY TCP4 192.0.2.1 192.0.2.2 1234 7000\n", NULL),
    S("PROXY TCP4 192.0.2.1 192.0.2.2 1234 7000\r\r\n", NULL),
    S("PROXY TCP4 192.0.2.1  192.0.2.2 1234 7000\r\n", NULL),
    S("PROXY TCP4 192.0.2.1 192.0.2.2 1234 7000 \r\n", NULL),
    S("PROXY TCP4 192.0.2.1 192.0.2.2 1234\r\n", NULL),
    S("PROXY TCP4 192.0.2.01 192.0.2.2 1234 7000\r\n", NULL),
    S("PROXY TCP4 192.0.2.1 192.0.2.2 01234 7000\r\n", NULL),
    S("PROXY TCP4 192.0.2.1 192.0.2.2 1234 65536\r\n", NULL),
    S("PROXY TCP4 192.0.2.1 192.0.2.2 -1 7000\r\n", NULL),
    S("PROXY TCP4 2001:db8::1 ::1 1234 7000\r\n", NULL),
    S("PROXY TCP6 192.0.2.1 192.0.2.2 1234 7000\r\n", NULL),
    S("PROXY TCP5 192.0.2.1 192.0.2.2 1234 7000\r\n", NULL),
    S("PROXY UNKNOWNx\r\n", NULL),
    S("PROXY\r\n", NULL),
    S("proxy TCP4 192.0.2.1 192.0.2.2 1234 7000\r\n", NULL),
    S("GET / HTTP/1.1\r\n\r\n", NULL),
    S(SIG "\x21\x11\0\x0c" V4, "192.0.2.1"),
    S(SIG "\x21\x21\0\x24" V6, "2001:db8::1"),
    S(SIG "\x21\x12\0\x0c" V4, "-"), /* a datagram's */
    S(SIG "\x21\x00\0\x03"
	  "abc",
	"-"),
    S(SIG "\x20\x00\0\0", "-"),
    S(SIG "\x20\x11\0\x0c" V4, "-"), /* LOCAL */
    S(SIG "\x20\xff\0\0", "-"),      /* … whatever its family */
    S(SIG "\x21\x11\0\x0f" V4 "\x04\0\0", "192.0.2.1"),
    S(SIG "\x21\x11\0\x0e" V4 "\x04\0", NULL),
    S(SIG "\x21\x11\0\x10" V4 "\x04\0\x02x", NULL),
    S(SIG "\x21\x11\0\x14" V4 "\x20\0\x05\x01\0\0\0\0", "192.0.2.1"),
    S(SIG "\x21\x11\0\x13" V4 "\x20\0\x04\x01\0\0\0", NULL),
    S(SIG "\x21\x11\0\x13" V4 "\x03\0\x04\0\0\0\0", NULL),
    S(SIG "\x21\x11\0\x13" V4 "\x03\0\x04\x8c\x0e\x05\x5b", NULL),
    S(SIG "\x21\x11\0\x0b\xc0\0\x02\x01\xc0\0\x02\x02\x04\xd2\x1b", NULL),
    S(SIG "\x21\x21\0\x0c" V4, NULL),
    S(SIG "\x21\x41\0\x0c" V4, NULL),
    S(SIG "\x21\x13\0\x0c" V4, NULL),
    S(SIG "\x22\x11\0\x0c" V4, NULL),
    S(SIG "\x11\x11\0\x0c" V4, NULL),
    S(SIG "\x21\x11\xff\xff" V4, NULL),
};

static void
must_be(const struct sample *s, const uint8_t *data, size_t n)
{
	struct proxy_head head;
	char text[CONN_ADDRESS_SIZE];
	enum proxy_result r = proxy_parse(data, n, &head);

	CU_ASSERT_EQUAL(r, s->client != NULL ? PROXY_OK : PROXY_BAD);
	if (r != PROXY_OK || s->client == NULL)
		return;
	CU_ASSERT_EQUAL(head.length, s->n);
	conn_address_text((const struct sockaddr *)&head.client, text);
	CU_ASSERT_STRING_EQUAL(text, s->client);
}

static void
a_head_is_read_or_refused(void)
{
	for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++)
		must_be(&samples[i], (const uint8_t *)samples[i].bytes, samples[i].n);
}

static void
what_follows_a_head_is_left_alone(void)
{
	static const char more[] = "\0\n\r\nPROXY";
	uint8_t data[256];

	for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
		if (samples[i].client == NULL)
			continue;
		memcpy(data, samples[i].bytes, samples[i].n);
		memcpy(data + samples[i].n, more, sizeof(more));
		must_be(&samples[i], data, samples[i].n + sizeof(more));
	}
}

static void
a_head_may_come_byte_by_byte(void)
{
	for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++)
		for (size_t n = 0; n < samples[i].n && samples[i].client != NULL; n++) {
			struct proxy_head head;

			CU_ASSERT_EQUAL(proxy_parse((const uint8_t *)samples[i].bytes, n, &head),
			    PROXY_MORE);
		}
}

static void
tls_is_what_the_head_says(void)
{
	static const struct {
		const char *bytes;
		size_t n;
		bool tls;
	} heads[] = {
	    {SIG "\x21\x11\0\x14" V4 "\x20\0\x05\x01\0\0\0\0", 36, true},
	    {SIG "\x21\x11\0\x14" V4 "\x20\0\x05\x07\0\0\0\0", 36, true},
	    {SIG "\x21\x11\0\x14" V4 "\x20\0\x05\x06\0\0\0\0", 36, false},
	    {SIG "\x20\x11\0\x14" V4 "\x20\0\x05\x01\0\0\0\0", 36, false}, /* LOCAL */
	    {SIG "\x21\x11\0\x0c" V4, 28, false},
	};

	for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
		struct proxy_head head;

		CU_ASSERT_EQUAL(
		    proxy_parse((const uint8_t *)heads[i].bytes, heads[i].n, &head), PROXY_OK);
		CU_ASSERT_EQUAL(head.tls, heads[i].tls);
	}
}

/* The checksum was made by another program, which makes e3069283 of "123456789". */
static void
a_checksum_is_verified(void)
{
	static const uint8_t good[] = SIG "\x21\x11\0\x18" V4 "\x03\0\x04\x00\x00\x00\x00"
					  "\x04\0\x02xx";
	uint8_t data[sizeof(good) - 1];
	struct proxy_head head;
	unsigned right = 0;

	memcpy(data, good, sizeof(data));
	memcpy(data + 31, "\xcf\x40\x41\x81", 4);
	CU_ASSERT_EQUAL(proxy_parse(data, sizeof(data), &head), PROXY_OK);
	for (size_t bit = 0; bit < 32; bit++) {
		data[31 + bit / 8] ^= (uint8_t)(1 << bit % 8);
		right += proxy_parse(data, sizeof(data), &head) == PROXY_OK;
		data[31 + bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	CU_ASSERT_EQUAL(right, 0);
}

/* --- networks --------------------------------------------------------------------------------- */

static bool
has(const char *network, const char *address)
{
	struct sockaddr_storage sa = {0};
	struct network n;
	bool six = strchr(address, ':') != NULL;

	CU_ASSERT_PTR_NULL_FATAL(network_parse(network, &n));
	sa.ss_family = six ? AF_INET6 : AF_INET;
	CU_ASSERT_EQUAL(inet_pton(sa.ss_family, address,
			    six ? (void *)&((struct sockaddr_in6 *)&sa)->sin6_addr
				: (void *)&((struct sockaddr_in *)&sa)->sin_addr),
	    1);
	return network_has(&n, (const struct sockaddr *)&sa);
}

static void
an_address_is_in_its_network_only(void)
{
	struct sockaddr_storage local = {.ss_family = AF_UNIX};
	struct network n;

	CU_ASSERT_TRUE(has("10.0.0.0/8", "10.255.0.1"));
	CU_ASSERT_FALSE(has("10.0.0.0/8", "11.0.0.1"));
	CU_ASSERT_TRUE(has("10.1.2.3", "10.1.2.3"));
	CU_ASSERT_FALSE(has("10.1.2.3", "10.1.2.2"));
	CU_ASSERT_TRUE(has("192.168.128.0/17", "192.168.200.1"));
	CU_ASSERT_FALSE(has("192.168.128.0/17", "192.168.100.1"));
	CU_ASSERT_TRUE(has("0.0.0.0/0", "1.2.3.4"));
	CU_ASSERT_FALSE(has("0.0.0.0/0", "::1"));
	CU_ASSERT_TRUE(has("::/0", "2001:db8::1"));
	CU_ASSERT_FALSE(has("::/0", "::ffff:10.0.0.1"));
	CU_ASSERT_TRUE(has("10.0.0.0/8", "::ffff:10.0.0.1"));
	CU_ASSERT_TRUE(has("fd00::/8", "fdff::1"));
	CU_ASSERT_FALSE(has("fd00::/8", "fe00::1"));
	CU_ASSERT_PTR_NULL(network_parse("unix", &n));
	CU_ASSERT_TRUE(network_has(&n, (const struct sockaddr *)&local));
	CU_ASSERT_FALSE(has("unix", "127.0.0.1"));
}

static void
what_is_no_network_is_refused(void)
{
	static const char *const wrong[] = {"", "/", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/08",
	    "10.0.0.0/-1", "10.0.0.0/8/8", "10.0.0.1/8", "10.0.0/8", "010.0.0.0/8", "::/129", "::1/64",
	    "name", "Unix", "10.0.0.0 /8", "1111:2222:3333:4444:5555:6666:7777:8888:9999/8"};
	struct network n;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		CU_ASSERT_PTR_NOT_NULL(network_parse(wrong[i], &n));
}

static void
a_client_of_ipv6_is_its_64(void)
{
	char out[NETWORK_CLIENT_SIZE], other[NETWORK_CLIENT_SIZE];

	CU_ASSERT_STRING_EQUAL(network_client("192.0.2.1", out), "192.0.2.1");
	CU_ASSERT_STRING_EQUAL(network_client("unix", out), "unix");
	CU_ASSERT_STRING_EQUAL(network_client("2001:db8:1:2:3:4:5:6", out), "2001:db8:1:2::/64");
	CU_ASSERT_STRING_EQUAL(
	    network_client("2001:db8:1:2::1", out), network_client("2001:db8:1:2:f::", other));
	CU_ASSERT_STRING_NOT_EQUAL(
	    network_client("2001:db8:1:2::1", out), network_client("2001:db8:1:3::1", other));
}

void
suite_proxy_protocol(void)
{
	CU_pSuite suite = CU_add_suite("proxy_protocol", NULL, NULL);

	CU_add_test(suite, "a head is read or refused", a_head_is_read_or_refused);
	CU_add_test(suite, "what follows a head is left alone", what_follows_a_head_is_left_alone);
	CU_add_test(suite, "a head may come byte by byte", a_head_may_come_byte_by_byte);
	CU_add_test(suite, "TLS is what the head says", tls_is_what_the_head_says);
	CU_add_test(suite, "a checksum is verified", a_checksum_is_verified);
	CU_add_test(suite, "an address is in its network only", an_address_is_in_its_network_only);
	CU_add_test(suite, "what is no network is refused", what_is_no_network_is_refused);
	CU_add_test(suite, "a client of IPv6 is its /64", a_client_of_ipv6_is_its_64);
}
