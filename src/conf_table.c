/* The table of options, and how to look something up in it. */
#include "conf_table.h"

#include <limits.h>
#include <string.h>

#include "conf.h"
#include "shm.h"

#define MS ((uint64_t)1)
#define SECOND (1000 * MS)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define PB ((uint64_t)1000000000000000)

static const char *const schemes[] = {"http", "https", NULL};
static const char *const limit_statuses[] = {"429", "503", NULL};
static const char *const facilities[] = {"daemon", "user", "local0", "local1", "local2", "local3",
    "local4", "local5", "local6", "local7", NULL};
static const char *const client_kinds[] = {"anonymous", "password", "certificate", NULL};
static const char *const tls_versions[] = {"1.2", "1.3", NULL};
static const char *const client_auths[] = {"none", "request", "require", NULL};
static const char *const formats[] = {"text", "json", NULL};
static const char *const levels[] = {"error", "warn", "info", "debug", "trace", NULL};

#define AT(field) .offset = offsetof(struct conf, field)
#define FROM_TO(a, b) .min = (a), .max = (b)

static const struct conf_option options[] = {
    {"dataPath", CONF_PATH, AT(data_path), .required = true,
	.about = "The folder of the cache, made when it is missing. One cache runs on a folder at "
		 "a time."},
    {"user", CONF_STRING, AT(user),
	.about = "The user that listeners and the garbage collector run as when the daemon is "
		 "started by root."},
    {"group", CONF_STRING, AT(group),
	.about = "The group that they run as. Without it they run as the user's own."},
    {"sandbox", CONF_BOOL, AT(sandbox), "true",
	.about = "Listeners and the garbage collector give up what they have no use for: writing outside "
		 "of dataPath and the folder of log.path (Landlock), system calls that only an "
		 "intruder would make (seccomp), and core dumps."},
    {"server.workers", CONF_NUMBER, AT(server.workers), "10", FROM_TO(1, SHM_MAX_FILLS),
	.about = "How many objects are fetched from upstreams at the same time by the whole cache. "
		 "More wait, oldest first."},
    {"server.streamers", CONF_NUMBER, AT(server.streamers), "0", FROM_TO(0, 1000000),
	.about = "How many bodies are sent to clients at the same time by the whole cache. 0 is no "
		 "limit."},
    {"server.listeners", CONF_NUMBER, AT(server.listeners), "0", FROM_TO(0, SHM_MAX_LISTENERS),
	.about = "How many processes serve clients. 0 is the number of CPUs."},
    {"server.upstreamTimeout", CONF_DURATION, AT(server.upstream_timeout), "1m",
	FROM_TO(100 * MS, DAY),
	.about = "A transfer from an upstream that stays at or below server.lowSpeed for this long "
		 "is broken, and gone on with by Range."},
    {"server.timeout", CONF_DURATION, AT(server.timeout), "1m", FROM_TO(100 * MS, DAY),
	.about = "A client that neither sends nor takes a byte for this long is disconnected; a "
		 "request that waits its turn for this long is answered 503."},
    {"server.keepAliveTimeout", CONF_DURATION, AT(server.keep_alive), "150s",
	FROM_TO(100 * MS, DAY),
	.about = "How long a client's connection may stay open between two requests."},
    {"server.connectTimeout", CONF_DURATION, AT(server.connect_timeout), "10s",
	FROM_TO(100 * MS, HOUR),
	.about = "How long a connection to an upstream may take: name, TCP and TLS."},
    {"server.firstByteTimeout", CONF_DURATION, AT(server.first_byte_timeout), "10s",
	FROM_TO(100 * MS, HOUR),
	.about = "How long an upstream may take to begin its answer to a request that reads, over "
		 "all tries, redirects and hosts of a registry; then the client is answered 504."},
    {"server.drainTimeout", CONF_DURATION, AT(server.drain_timeout), "30s", FROM_TO(0, DAY),
	.about = "How long transfers may go on when the daemon is told to stop or to read its "
		 "configuration again."},
    {"server.checkGrace", CONF_DURATION, AT(server.check_grace), "0s", FROM_TO(0, 30 * DAY),
	.about = "When an upstream cannot answer, a client whose same credential was allowed the "
		 "same object of the same repository within this time is served from the cache. 0s "
		 "is never."},
    {"server.heartbeatTimeout", CONF_DURATION, AT(server.heartbeat_timeout), "10s",
	FROM_TO(2 * SECOND, HOUR),
	.about = "A child process that stands still for this long is killed and replaced."},
    {"server.lowSpeed", CONF_RATE, AT(server.low_speed), "1KiB/s", FROM_TO(0, GIB),
	.about = "The speed that server.upstreamTimeout goes by."},
    {"server.maxHead", CONF_SIZE, AT(server.max_head), "128KiB", FROM_TO(8 * KIB, MIB),
	.about = "How large the head of a client's request may be."},
    {"server.maxConnections", CONF_NUMBER, AT(server.max_connections), "0", FROM_TO(0, 1000000),
	.about = "How many connections clients may have to the whole cache. 0 is no limit but that of open files. "
		 "For one more, the connection that has waited longest for a request, and for a second "
		 "at least, is closed; when there is none, the new one is refused."},
    {"server.maxConnectionsPerAddress", CONF_NUMBER, AT(server.max_connections_per_address), "0",
	FROM_TO(0, 1000000),
	.about = "How many connections one client may have. 0 is no limit. A client is an IPv4 "
		 "address or the /64 of an IPv6 address, here and below."},
    {"server.requestRate", CONF_NUMBER, AT(server.request_rate), "0", FROM_TO(0, 1000000),
	.about = "How many requests a second one client may make of the whole cache; more are answered "
		 "429 with Retry-After. 0 is no limit."},
    {"server.requestBurst", CONF_NUMBER, AT(server.request_burst), "100", FROM_TO(1, 1000000),
	.about = "How many requests it may make at once after a pause."},
    {"server.clientBandwidth", CONF_RATE, AT(server.client_bandwidth), "0", FROM_TO(0, PB),
	.about = "How fast one client is sent bytes, over all its connections. 0 is no limit."},
    {"server.rateLimitStatus", CONF_WORD, AT(server.rate_limit_status), "429",
	.words = limit_statuses,
	.about = "What clients are told when a registry says 429 (too many requests). 503 makes "
		 "those that know of another mirror go there at once."},
    {"server.rateLimitDefault", CONF_DURATION, AT(server.rate_limit_default), "10s",
	FROM_TO(SECOND, DAY),
	.about = "After a 429 the registry is not asked with that credential again before its "
		 "Retry-After has passed, and clients are answered by the cache; this is how long "
		 "where the registry gave no Retry-After."},
    {"server.rateLimitMax", CONF_DURATION, AT(server.rate_limit_max), "10m",
	FROM_TO(SECOND, 7 * DAY),
	.about = "The longest Retry-After that is believed; after it the registry is asked again."},
    {"server.downAfter", CONF_NUMBER, AT(server.down_after), "5", FROM_TO(0, 255),
	.about = "After so many requests in a row that found no connection, no trust or no answer, "
		 "a host of a registry is not asked for a while, at first for a second and then "
		 "for twice as long each time. 0 is never."},
    {"server.downMax", CONF_DURATION, AT(server.down_max), "30s", FROM_TO(SECOND, DAY),
	.about = "The longest that such a host is not asked."},
    {"server.readOnly", CONF_BOOL, AT(server.read_only), "false",
	.about = "Refuse requests that write instead of passing them to the upstream."},
    {"server.passRanges", CONF_BOOL, AT(server.pass_ranges), "true",
	.about = "Fetch a range of a blob from its registry by itself, with the client's credentials, "
		 "when the blob's own fetch has not come so far within a second. Such bytes are not "
		 "checked against the digest. With false the client waits."},
    {"server.allowPrivateRedirects", CONF_BOOL, AT(server.allow_private_redirects), "false",
	.about = "Follow redirects from public upstreams to private and loopback addresses."},
    {"server.address", CONF_SOCKETS, AT(server.addresses), .required = true,
	.about = "Where clients connect: one address, or a list. Port 0 lets the system choose. "
		 "[::] takes IPv4, too, unless 0.0.0.0 is listed with the same port. A Unix socket "
		 "is removed when the cache ends; one that a dead process left is replaced."},
    {"server.proxyProtocol", CONF_NETWORKS, AT(server.proxies),
	.about = "Load balancers that say by the PROXY protocol (version 1 or 2) who their clients "
		 "are. Connections from these networks must begin with its head; the address in it "
		 "is then the client's, in the log and for limits, and what version 2 says of TLS "
		 "decides whether URLs of the cache's own are https. From elsewhere such a head is "
		 "a bad request."},
    {"server.socketMode", CONF_MODE, AT(server.socket_mode), "0660", FROM_TO(0, 0777),
	.about = "Who may connect to a Unix socket, which belongs to user and group: the mode of "
		 "its file."},
    {"server.defaultBackend.host", CONF_HOST, AT(server.default_backend.host),
	.about = "The upstream of requests that nothing else chooses one for."},
    {"server.defaultBackend.registry", CONF_STRING, AT(server.default_backend.registry),
	.about = "One of server.registries, instead of host and scheme."},
    {"server.defaultBackend.scheme", CONF_WORD, AT(server.default_backend.scheme), "https",
	.words = schemes, .about = "How the default upstream is spoken to."},
    {"server.defaultBackend.trusted", CONF_TRUST, AT(server.default_backend.trusted),
	.about = "Whether the upstream's word alone opens an object that another upstream "
		 "delivered. When not said, it does."},
    {"server.upstreamRules", CONF_RULES, AT(server.rules),
	.about = "Upstreams by the Host header of the request. The first rule that matches wins."},
    {"server.registries", CONF_REGISTRIES, AT(server.registries),
	.about = "Upstreams by the names that the ns parameter, paths and the header "
		 "X-Dragonfly-Registry may use."},
    {"server.tls.certPath", CONF_PATH, AT(server.tls.cert_path),
	.about =
	    "The certificate chain (PEM) shown to clients. Without it clients speak plain HTTP."},
    {"server.tls.keyPath", CONF_PATH, AT(server.tls.key_path),
	.about = "The private key (PEM) of the certificate. Others may not read the file."},
    {"server.tls.certificates", CONF_CERTIFICATES, AT(server.tls.certificates),
	.about = "More certificates with their keys. A client is shown the first one that has the "
		 "name that it asks for (TLS server name indication) among its own, else one with a "
		 "wildcard for it, else that of server.tls.certPath, or the first of these."},
    {"server.tls.minVersion", CONF_WORD, AT(server.tls.min_version), "1.2", .words = tls_versions,
	.about = "The oldest version of TLS that clients may speak. The newest is 1.3."},
    {"server.tls.ciphers", CONF_STRING, AT(server.tls.ciphers), "ECDHE+AESGCM:ECDHE+CHACHA20",
	.about = "The ciphers of TLS 1.2, as OpenSSL's ciphers(1) writes them. The order is the cache's, but "
		 "clients that prefer ChaCha20 get it."},
    {"server.tls.ciphersuites", CONF_STRING, AT(server.tls.ciphersuites),
	"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256",
	.about = "The same of TLS 1.3."},
    {"server.tls.groups", CONF_STRING, AT(server.tls.groups), "X25519:P-256:P-384",
	.about = "The groups for the exchange of keys."},
    {"server.tls.ticketRotation", CONF_DURATION, AT(server.tls.ticket_rotation), "4h",
	FROM_TO(SECOND, 3 * DAY),
	.about = "How often there is a new key for session tickets. Two older ones are kept, so "
		 "that a session may be resumed for twice as long, at any listener, also after "
		 "SIGHUP and SIGUSR2. Keys are in memory only."},
    {"server.tls.kernel", CONF_BOOL, AT(server.tls.kernel), "true",
	.about = "Let the kernel encrypt what is sent, where it can (kTLS)."},
    {"server.tls.caPath", CONF_PATH, AT(server.tls.ca_path),
	.about = "Certificates (PEM) trusted for upstreams, besides the system's."},
    {"server.tls.clientCaPath", CONF_PATH, AT(server.tls.client_ca_path),
	.about = "Certificates (PEM) whose holders' certificates are taken of clients."},
    {"server.tls.clientAuth", CONF_WORD, AT(server.tls.client_auth), "none", .words = client_auths,
	.about = "Whether clients are asked for a certificate. With request they may have none; one "
		 "that is not of server.tls.clientCaPath ends the connection in any case."},
    {"server.auth.clients", CONF_WORD, AT(server.auth.clients), .words = client_kinds,
	.about = "How clients say to the cache itself who they are: not at all, by a user and "
		 "password of server.auth.htpasswd (HTTP Basic), or by a certificate "
		 "(server.tls.clientAuth). When not said, they are anonymous, and no registry may "
		 "have credentials here. What clients send with password is for the cache and goes to no registry."},
    {"server.auth.htpasswd", CONF_PATH, AT(server.auth.htpasswd),
	.about = "Users and hashes of their passwords, as htpasswd -B makes them: bcrypt, sha-crypt or "
		 "yescrypt. Others may neither read nor write the file. It is read again on SIGHUP."},
    {"server.auth.realm", CONF_STRING, AT(server.auth.realm), "registry-cache",
	.about = "What clients are told that the password is for."},
    {"metrics.address", CONF_ADDRESS, AT(metrics.address),
	.about = "Where metrics are served. Without it they are not."},
    {"log.path", CONF_PATH, AT(log.path),
	.about = "The file that log lines are added to. Without it they go to standard error."},
    {"log.level", CONF_WORD, AT(log.level), "info", .words = levels,
	.about = "Lines below this level are left out."},
    {"log.syslog", CONF_WORD, AT(log.syslog), .words = facilities,
	.about = "The syslog facility that log lines go to, instead of log.path."},
    {"log.format", CONF_WORD, AT(log.format), "text", .words = formats,
	.about = "Lines of text, or JSON objects, one a line."},
    {"log.access", CONF_BOOL, AT(log.access), "true", .about = "Log a line for every request."},
    {"gc.disk.maxSize", CONF_SIZE, AT(gc.disk_max_size), "0", FROM_TO(0, 1000 * PB),
	.about = "The disk space that the cache may take, in blocks: objects, what is being fetched, "
		 "index and folders. When it is used up, what was unused for longest is removed, "
		 "down to 95 % of it. 0 is no limit but that of the file system."},
    {"gc.disk.minFree", CONF_SIZE, AT(gc.disk_min_free), "0", FROM_TO(0, 1000 * PB),
	.about = "The space of the file system that is left free, as above. With less than 1 MiB, that "
		 "much is left for the index."},
    {"gc.interval", CONF_DURATION, AT(gc.interval), "20m", FROM_TO(100 * MS, 365 * DAY),
	.about = "How often the garbage collector runs."},
    {"gc.layers.checkSHA", CONF_BOOL, AT(gc.layers.check_sha), "false",
	.about = "Hash stored layers, and manifests with them, again from time to time, and remove what "
		 "is corrupt."},
    {"gc.layers.checkInterval", CONF_DURATION, AT(gc.layers.check_interval), "24h",
	FROM_TO(SECOND, 3650 * DAY),
	.about = "How long after it was last hashed an object is hashed again."},
    {"gc.layers.checkRate", CONF_RATE, AT(gc.layers.check_rate), "200MB/s", FROM_TO(KIB, PB),
	.about = "How fast objects are read for that, at most, and for making a lost index again. Half of "
		 "a CPU is the other limit of the former."},
    {"gc.layers.maxAge", CONF_DURATION, AT(gc.layers.max_age), "0s", FROM_TO(0, 3650 * DAY),
	.about = "Layers fetched longer ago are removed. 0s is never."},
    {"gc.layers.maxUnused", CONF_DURATION, AT(gc.layers.max_unused), "0s", FROM_TO(0, 3650 * DAY),
	.about = "Layers last used longer ago are removed. 0s is never."},
    {"gc.manifests.maxAge", CONF_DURATION, AT(gc.manifests.max_age), "0s", FROM_TO(0, 3650 * DAY),
	.about = "Manifests fetched longer ago are removed. 0s is never."},
    {"gc.manifests.maxUnused", CONF_DURATION, AT(gc.manifests.max_unused), "0s",
	FROM_TO(0, 3650 * DAY),
	.about = "Manifests last used longer ago are removed. 0s is never."},
};

#undef AT
#define AT(field) .offset = offsetof(struct conf_rule, field)

static const struct conf_option rule_options[] = {
    {"regex", CONF_REGEX, AT(regex), .required = true,
	.about = "Matched against the Host header in lower case."},
    {"host", CONF_HOST_PATTERN, AT(to.host),
	.about =
	    "The upstream. $group1 to $group9 stand for what the groups of the regex captured."},
    {"registry", CONF_STRING, AT(to.registry),
	.about = "One of server.registries, instead of host, scheme and trusted."},
    {"scheme", CONF_WORD, AT(to.scheme), "https", .words = schemes,
	.about = "How the upstream is spoken to."},
    {"trusted", CONF_TRUST, AT(to.trusted),
	.about =
	    "Whether the upstream's word alone opens an object that another upstream delivered. "
	    "When not said, it does unless a group can choose the registrable domain."},
};

#undef AT
#define AT(field) .offset = offsetof(struct conf_registry, field)

static const struct conf_option registry_options[] = {
    {"hosts", CONF_HOSTS, AT(hosts),
	.about = "Where the registry is, 16 hosts at most; tried in order. The default is its "
		 "name, and registry-1.docker.io for docker.io."},
    {"aliases", CONF_NAMES, AT(aliases),
	.about = "More names that clients may use for it. A name with a port needs one to be "
		 "the beginning of a repository's name, where \":\" cannot be."},
    {"library", CONF_BOOL, AT(library), "false",
	.about = "Take a repository of one component for one below library/, as Docker Hub's "
		 "own clients do: docker.io/alpine is docker.io/library/alpine."},
    {"scheme", CONF_WORD, AT(scheme), "https", .words = schemes,
	.about = "How the registry is spoken to."},
    {"caPath", CONF_PATH, AT(ca_path),
	.about = "Certificates (PEM) trusted for this registry, besides the system's."},
    {"credentials", CONF_PATH, AT(credentials),
	.about = "A file of mode 0600 that holds user:password."},
    {"realm", CONF_HOST, AT(realm),
	.about = "A host, with or without a port, that the registry may send clients, and the cache with its "
		 "credentials, to for tokens, besides its own host and registrable domain."},
    {"trusted", CONF_TRUST, AT(trusted),
	.about = "Whether the registry's word alone opens an object that another upstream "
		 "delivered. When not said, it does."},
};

#undef AT

#define AT(field) .offset = offsetof(struct conf_certificate, field)

static const struct conf_option certificate_options[] = {
    {"certPath", CONF_PATH, AT(cert_path), .required = true, .about = "The certificate chain (PEM)."},
    {"keyPath", CONF_PATH, AT(key_path), .required = true, .about = "Its private key (PEM)."},
};

#undef AT

#define ROWS(t) \
	{ \
		t, sizeof(t) / sizeof((t)[0]) \
	}

const struct conf_table conf_table = ROWS(options);
const struct conf_table conf_rule_table = ROWS(rule_options);
const struct conf_table conf_registry_table = ROWS(registry_options);
const struct conf_table conf_certificate_table = ROWS(certificate_options);

/* What follows "section." in a row's path; NULL: the row is not in that section. */
static const char *
below(const char *path, const char *section)
{
	size_t n = strlen(section);

	if (n == 0)
		return path;
	return strncmp(path, section, n) == 0 && path[n] == '.' ? path + n + 1 : NULL;
}

const struct conf_option *
conf_table_find(const struct conf_table *t, const char *path)
{
	for (size_t i = 0; i < t->n; i++)
		if (strcmp(t->rows[i].path, path) == 0)
			return &t->rows[i];
	return NULL;
}

bool
conf_table_has_section(const struct conf_table *t, const char *path)
{
	for (size_t i = 0; i < t->n; i++)
		if (below(t->rows[i].path, path) != NULL)
			return true;
	return false;
}

const char *
conf_table_next_name(const struct conf_table *t, const char *path, size_t *i, size_t *len)
{
	while (*i < t->n) {
		const char *name = below(t->rows[*i].path, path);
		const char *before = *i == 0 ? NULL : below(t->rows[*i - 1].path, path);

		++*i;
		if (name == NULL)
			continue;
		*len = strcspn(name, ".");
		if (before == NULL || strcspn(before, ".") != *len ||
		    strncmp(before, name, *len) != 0)
			return name;
	}
	return NULL;
}
