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
static const char *const facilities[] = {"daemon", "user", "local0", "local1", "local2", "local3",
    "local4", "local5", "local6", "local7", NULL};
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
	FROM_TO(100 * MS, HOUR), .about = "How long an upstream may take to begin its answer."},
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
	.about = "How many connections clients may have to the whole cache. 0 is no limit."},
    {"server.maxConnectionsPerAddress", CONF_NUMBER, AT(server.max_connections_per_address), "0",
	FROM_TO(0, 1000000),
	.about = "How many connections one client address may have. 0 is no limit."},
    {"server.readOnly", CONF_BOOL, AT(server.read_only), "false",
	.about = "Refuse requests that write instead of passing them to the upstream."},
    {"server.allowPrivateRedirects", CONF_BOOL, AT(server.allow_private_redirects), "false",
	.about = "Follow redirects from public upstreams to private and loopback addresses."},
    {"server.address", CONF_ADDRESS, AT(server.address), .required = true,
	.about = "Where clients connect. Port 0 lets the system choose."},
    {"server.defaultBackend.host", CONF_HOST, AT(server.default_backend.host),
	.about = "The upstream of requests that nothing else chooses one for."},
    {"server.defaultBackend.scheme", CONF_WORD, AT(server.default_backend.scheme), "https",
	.words = schemes, .about = "How the default upstream is spoken to."},
    {"server.defaultBackend.trusted", CONF_TRUST, AT(server.default_backend.trusted),
	.about = "Whether the upstream's word alone opens an object that another upstream "
		 "delivered. When not said, it does."},
    {"server.upstreamRules", CONF_RULES, AT(server.rules),
	.about = "Upstreams by the Host header of the request. The first rule that matches wins."},
    {"server.registries", CONF_REGISTRIES, AT(server.registries),
	.about = "Upstreams by the names that the ns parameter and path prefixes may use."},
    {"server.tls.certPath", CONF_PATH, AT(server.tls.cert_path),
	.about =
	    "The certificate chain (PEM) shown to clients. Without it clients speak plain HTTP."},
    {"server.tls.keyPath", CONF_PATH, AT(server.tls.key_path),
	.about = "The private key (PEM) of the certificate."},
    {"server.tls.caPath", CONF_PATH, AT(server.tls.ca_path),
	.about = "Certificates (PEM) trusted for upstreams, besides the system's."},
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
	.about = "The disk space that objects may use. 0 is no limit."},
    {"gc.disk.minFree", CONF_SIZE, AT(gc.disk_min_free), "0", FROM_TO(0, 1000 * PB),
	.about = "The space of the file system that is left free. 0 is no limit."},
    {"gc.interval", CONF_DURATION, AT(gc.interval), "20m", FROM_TO(100 * MS, 365 * DAY),
	.about = "How often the garbage collector runs."},
    {"gc.layers.checkSHA", CONF_BOOL, AT(gc.layers.check_sha), "false",
	.about = "Hash stored layers again and remove what is corrupt."},
    {"gc.layers.checkInterval", CONF_DURATION, AT(gc.layers.check_interval), "24h",
	FROM_TO(SECOND, 3650 * DAY),
	.about = "How long after it was last hashed a layer is hashed again."},
    {"gc.layers.checkRate", CONF_RATE, AT(gc.layers.check_rate), "200MB/s", FROM_TO(KIB, PB),
	.about = "How fast layers are read for that."},
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
    {"host", CONF_HOST_PATTERN, AT(to.host), .required = true,
	.about =
	    "The upstream. $group1 to $group9 stand for what the groups of the regex captured."},
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
	.about = "Where the registry is; tried in order. The default is its name."},
    {"scheme", CONF_WORD, AT(scheme), "https", .words = schemes,
	.about = "How the registry is spoken to."},
    {"caPath", CONF_PATH, AT(ca_path),
	.about = "Certificates (PEM) trusted for this registry, besides the system's."},
    {"credentials", CONF_PATH, AT(credentials),
	.about = "A file of mode 0600 that holds user:password."},
    {"trusted", CONF_TRUST, AT(trusted),
	.about = "Whether the registry's word alone opens an object that another upstream "
		 "delivered. When not said, it does."},
};

#undef AT

#define ROWS(t) \
	{ \
		t, sizeof(t) / sizeof((t)[0]) \
	}

const struct conf_table conf_table = ROWS(options);
const struct conf_table conf_rule_table = ROWS(rule_options);
const struct conf_table conf_registry_table = ROWS(registry_options);

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
