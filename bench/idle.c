/* Idle clients: N connections, one answered request on each, then nothing. Says "ready" and holds
 * them until its standard input ends; then says how many are still open, because a server that
 * closed them has measured nothing.
 */
#include "client.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 16384 };

static void
ask_once(int fd, const char *request)
{
	static struct reply reply;

	reply_reset(&reply);
	client_send(fd, request);
	while (!reply_complete(&reply)) {
		if (reply.body_at == 0) {
			if (!reply_read_head(&reply, fd))
				die("no answer in time");
		} else {
			ssize_t n = recv(fd, NULL, (size_t)(reply.length - reply.got), MSG_TRUNC);

			if (n <= 0)
				die("a body was cut at %llu bytes", (unsigned long long)reply.got);
			reply.got += (uint64_t)n;
		}
	}
}

static bool
still_open(int fd)
{
	char c;

	return recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
}

int
main(int argc, char **argv)
{
	unsigned port, count, open = 0;
	char *request, c;
	int *fds;

	if (argc != 4)
		die("usage: idle port path connections");
	port = parse_number(argv[1], "port", 1, 65535);
	count = parse_number(argv[3], "connections", 1, MAX_CONNECTIONS);
	fds = calloc(count, sizeof(*fds));
	if (fds == NULL)
		die("out of memory");
	request = client_request(argv[2], port, 0);
	for (unsigned i = 0; i < count; i++) {
		fds[i] = client_connect(port);
		ask_once(fds[i], request);
	}
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	for (unsigned i = 0; i < count; i++)
		open += still_open(fds[i]);
	printf("%u\n", open);
	free(request);
	free(fds);
	return 0;
}
