/* The listening sockets: reading an address, and binding it once a listener with SO_REUSEPORT
 * without letting another daemon share the port. */
#include "master_private.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "child.h"
#include "conf.h"
#include "log.h"
#include "shm.h"
#include "xalloc.h"


/* --- addresses ------------------------------------------------------------------------------- */

static bool
port_is_valid(const char *port)
{
	unsigned value = 0;
	size_t n = strlen(port);

	if (n == 0 || n > 5 || strspn(port, "0123456789") != n)
		return false;
	for (size_t i = 0; i < n; i++)
		value = value * 10 + (unsigned)(port[i] - '0');
	return value <= UINT16_MAX;
}

const char *
master_parse_address(const char *text, struct master_address *out)
{
	const char *colon = strrchr(text, ':');
	const char *host = text;
	size_t n;

	if (colon == NULL)
		return "it has no port; expected host:port";
	n = (size_t)(colon - text);
	if (text[0] == '[') {
		if (n < 3 || text[n - 1] != ']')
			return "expected [IPv6 address]:port";
		host++;
		n -= 2;
	} else if (memchr(text, ':', n) != NULL) {
		return "an IPv6 address needs brackets: [address]:port";
	}
	if (n >= sizeof(out->host))
		return "the host is too long";
	if (!port_is_valid(colon + 1))
		return "the port is not a number from 0 to 65535";
	memcpy(out->host, host, n);
	out->host[n] = '\0';
	strcpy(out->port, colon + 1);
	return NULL;
}

static void
format_bound(const struct sockaddr_storage *sa, socklen_t length, char out[MASTER_BOUND_SIZE])
{
	char host[MASTER_BOUND_SIZE - 10], port[6];

	if (getnameinfo((const struct sockaddr *)sa, length, host, sizeof(host), port, sizeof(port),
		NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		snprintf(out, MASTER_BOUND_SIZE, "an address of family %d", sa->ss_family);
	else
		snprintf(out, MASTER_BOUND_SIZE, sa->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s",
		    host, port);
}

/* --- sockets --------------------------------------------------------------------------------- */

/* A bound socket, or -1 with errno. `only6`: an IPv6 socket takes no IPv4. */
static int
bound_socket(const struct sockaddr_storage *sa, socklen_t length, bool share, bool only6)
{
	const int on = 1, six = only6;
	int fd = socket(sa->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int saved;

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	    (!share || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0) &&
	    (sa->ss_family != AF_INET6 ||
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &six, sizeof(six)) == 0) &&
	    bind(fd, (const struct sockaddr *)sa, length) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* SO_REUSEPORT lets every process of this user share the port, a forgotten second daemon too: ask
 * without it first. */
static bool
port_is_free(const struct sockaddr_storage *sa, socklen_t length, bool only6)
{
	int fd = bound_socket(sa, length, false, only6);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static void
close_all(int *fds, unsigned n)
{
	int saved = errno;

	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
	errno = saved;
}

/* False with errno. The first socket settles the port of all, should the kernel pick it. */
static bool
bind_all(struct sockaddr_storage *sa, socklen_t length, bool only6, unsigned n, int *fds,
    bool listening)
{
	for (unsigned i = 0; i < n; i++) {
		socklen_t room = sizeof(*sa);

		fds[i] = bound_socket(sa, length, true, only6);
		if (fds[i] < 0) {
			close_all(fds, i);
			return false;
		}
		if ((listening && listen(fds[i], CHILD_BACKLOG) != 0) ||
		    getsockname(fds[i], (struct sockaddr *)sa, &room) != 0) {
			close_all(fds, i + 1);
			return false;
		}
	}
	return true;
}

/* Tries what `host` resolves to until one can be bound. An address that is in use is an error, not
 * a reason to take the next. False: with errno (0: it does not resolve), and *why is the reason in
 * words (static). */
static bool
listen_on_host(const struct master_address *at, const char *host, unsigned n, int *fds,
    char bound[MASTER_BOUND_SIZE], const char **why)
{
	const struct addrinfo hints = {
	    .ai_socktype = SOCK_STREAM,
	    .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
	};
	struct addrinfo *list, *a;
	struct sockaddr_storage sa;
	int error = getaddrinfo(host, at->port, &hints, &list), saved;
	bool done = false;

	if (error != 0) {
		*why = error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error);
		errno = 0;
		return false;
	}
	for (a = list; a != NULL && !done; a = a->ai_next) {
		memset(&sa, 0, sizeof(sa));
		memcpy(&sa, a->ai_addr, a->ai_addrlen);
		done = port_is_free(&sa, a->ai_addrlen, at->only6) &&
		    bind_all(&sa, a->ai_addrlen, at->only6, n, fds, true);
		if (done)
			format_bound(&sa, a->ai_addrlen, bound);
		else if (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL)
			break;
	}
	saved = errno;
	if (!done)
		*why = strerror(saved);
	freeaddrinfo(list);
	errno = saved;
	return done;
}

/* `only6`: as for bound_socket(). */
static bool
listen_on(const char *address, bool only6, unsigned n, int *fds, char bound[MASTER_BOUND_SIZE])
{
	struct master_address a;
	const char *why = master_parse_address(address, &a);
	bool done;

	if (why != NULL) {
		log_error("server.address %s: %s", address, why);
		return false;
	}
	a.only6 = only6;
	if (a.host[0] != '\0') {
		done = listen_on_host(&a, a.host, n, fds, bound, &why);
	} else {
		done = listen_on_host(&a, "::", n, fds, bound, &why);
		if (!done && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
			done = listen_on_host(&a, "0.0.0.0", n, fds, bound, &why);
	}
	if (!done)
		log_error("cannot listen on %s: %s", address, why);
	return done;
}

bool
master_listen(const char *address, unsigned n, int *fds, char bound[MASTER_BOUND_SIZE])
{
	return listen_on(address, false, n, fds, bound);
}

/* --- the master's own ------------------------------------------------------------------------ */

static void
keep(struct master *m, const char *address, const char *bound, const int *fds, unsigned n)
{
	m->sockets = xrealloc(m->sockets, (m->nsockets + n) * sizeof(*m->sockets));
	for (unsigned i = 0; i < n; i++) {
		struct master_socket *s = &m->sockets[m->nsockets++];

		s->address = xstrdup(address);
		s->fd = fds[i];
		snprintf(s->bound, sizeof(s->bound), "%s", bound);
	}
}

/* As many more as `like`, which is bound and has our SO_REUSEPORT. */
static bool
listen_beside(const struct master_socket *like, unsigned n, int *fds)
{
	struct sockaddr_storage sa;
	socklen_t length = sizeof(sa), room = sizeof(int);
	int only6 = 0;

	(void)getsockopt(like->fd, IPPROTO_IPV6, IPV6_V6ONLY, &only6, &room);
	if (getsockname(like->fd, (struct sockaddr *)&sa, &length) == 0 &&
	    bind_all(&sa, length, only6 != 0, n, fds, false))
		return true;
	log_error("cannot listen %u times more on %s: %s", n, like->bound, strerror(errno));
	return false;
}

/* One of this address; NULL: there is none. *have is how many. */
static const struct master_socket *
sockets_of(const struct master *m, const char *address, unsigned *have)
{
	const struct master_socket *like = NULL;

	*have = 0;
	for (unsigned i = 0; i < m->nsockets; i++)
		if (strcmp(m->sockets[i].address, address) == 0) {
			like = &m->sockets[i];
			++*have;
		}
	return like;
}

/* Is this [::], with 0.0.0.0 beside it? Then IPv4 is that one's. */
static bool
is_only6(const char *address, const struct conf *conf)
{
	struct master_address a, other;

	if (master_parse_address(address, &a) != NULL || strcmp(a.host, "::") != 0)
		return false;
	for (size_t i = 0; i < conf->server.addresses.n; i++)
		if (master_parse_address(conf->server.addresses.items[i], &other) == NULL &&
		    strcmp(other.host, "0.0.0.0") == 0 && strcmp(other.port, a.port) == 0 &&
		    strcmp(a.port, "0") != 0)
			return true;
	return false;
}

static bool
open_internet(struct master *m, const char *address, const struct conf *conf)
{
	unsigned have, n = conf->server.listeners;
	const struct master_socket *like = sockets_of(m, address, &have);
	char bound[MASTER_BOUND_SIZE];
	int fds[SHM_MAX_LISTENERS];

	if (have >= n)
		return true;
	if (like == NULL ? !listen_on(address, is_only6(address, conf), n, fds, bound)
			 : !listen_beside(like, n - have, fds))
		return false;
	if (like != NULL)
		strcpy(bound, like->bound);
	keep(m, address, bound, fds, n - have);
	return true;
}

static bool
open_unix(struct master *m, const char *address, const struct master_edition *e)
{
	unsigned have, mode = e->conf->server.socket_mode;
	int fd;

	if (sockets_of(m, address, &have) != NULL)
		return true; /* its mode changes with all else: master_set_all_unix() */
	fd = master_listen_unix(address, mode, &e->user);
	if (fd >= 0)
		keep(m, address, address, &fd, 1);
	return fd >= 0;
}

bool
master_open_sockets(struct master *m, const struct master_edition *e)
{
	const struct conf_list *all = &e->conf->server.addresses;

	for (size_t i = 0; i < all->n; i++)
		if (master_is_unix(all->items[i]) ? !open_unix(m, all->items[i], e)
						  : !open_internet(m, all->items[i], e->conf))
			return false;
	return true;
}

void
master_set_all_unix(const struct master_edition *e)
{
	const struct conf_list *all = &e->conf->server.addresses;

	for (size_t i = 0; i < all->n; i++)
		if (master_is_unix(all->items[i]))
			master_set_unix(all->items[i], e->conf->server.socket_mode, &e->user);
}

bool
master_wants(const struct conf *conf, const char *address)
{
	for (size_t i = 0; conf != NULL && i < conf->server.addresses.n; i++)
		if (strcmp(conf->server.addresses.items[i], address) == 0)
			return true;
	return false;
}

void
master_close_sockets(struct master *m, const struct conf *conf, unsigned most)
{
	unsigned before = m->nsockets, have;

	m->nsockets = 0; /* … those before `i` that stay */
	for (unsigned i = 0; i < before; i++) {
		struct master_socket s = m->sockets[i];

		(void)sockets_of(m, s.address, &have);
		if (master_wants(conf, s.address) && have < most) {
			m->sockets[m->nsockets++] = s;
			continue;
		}
		close(s.fd);
		if (master_is_unix(s.address))
			master_remove_unix(s.address);
		free(s.address);
	}
}

void
master_close_new_sockets(struct master *m, unsigned before)
{
	while (m->nsockets > before) {
		struct master_socket s = m->sockets[--m->nsockets];

		close(s.fd);
		if (master_is_unix(s.address))
			master_remove_unix(s.address);
		free(s.address);
	}
}

char *
master_bound_text(const struct master *m)
{
	char *text = NULL, *longer;

	for (unsigned i = 0; i < m->nsockets; i++) {
		if (i > 0 && strcmp(m->sockets[i].address, m->sockets[i - 1].address) == 0)
			continue;
		longer = text == NULL ? xstrdup(m->sockets[i].bound)
				      : xasprintf("%s, %s", text, m->sockets[i].bound);
		free(text);
		text = longer;
	}
	return text != NULL ? text : xstrdup("nothing");
}
