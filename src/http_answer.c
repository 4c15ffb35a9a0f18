/* Answers' heads and the JSON of errors. Written with plain copies: every request formats one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <jansson.h>

#include "clock.h"
#include "http.h"
#include "log.h"
#include "xalloc.h"

static const struct {
	int status;
	const char *reason;
} reasons[] = {
	{100, "Continue"}, {101, "Switching Protocols"}, {200, "OK"}, {201, "Created"},
	{202, "Accepted"}, {203, "Non-Authoritative Information"}, {204, "No Content"},
	{205, "Reset Content"}, {206, "Partial Content"}, {300, "Multiple Choices"},
	{301, "Moved Permanently"}, {302, "Found"}, {303, "See Other"}, {304, "Not Modified"},
	{305, "Use Proxy"}, {307, "Temporary Redirect"}, {308, "Permanent Redirect"},
	{400, "Bad Request"}, {401, "Unauthorized"}, {402, "Payment Required"}, {403, "Forbidden"},
	{404, "Not Found"}, {405, "Method Not Allowed"}, {406, "Not Acceptable"},
	{407, "Proxy Authentication Required"}, {408, "Request Timeout"}, {409, "Conflict"},
	{410, "Gone"}, {411, "Length Required"}, {412, "Precondition Failed"},
	{413, "Content Too Large"}, {414, "URI Too Long"}, {415, "Unsupported Media Type"},
	{416, "Range Not Satisfiable"}, {417, "Expectation Failed"}, {421, "Misdirected Request"},
	{422, "Unprocessable Content"}, {423, "Locked"}, {424, "Failed Dependency"},
	{425, "Too Early"}, {426, "Upgrade Required"}, {428, "Precondition Required"},
	{429, "Too Many Requests"}, {431, "Request Header Fields Too Large"},
	{451, "Unavailable For Legal Reasons"}, {500, "Internal Server Error"},
	{501, "Not Implemented"}, {502, "Bad Gateway"}, {503, "Service Unavailable"},
	{504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"},
	{507, "Insufficient Storage"}, {508, "Loop Detected"},
	{511, "Network Authentication Required"},
};

/* RFC 9110 section 7.6.1, and those that are about this connection's other end. */
static const char *const hop_by_hop[] = {
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate",
	"Proxy-Authentication-Info", "Proxy-Authorization", "TE", "Trailer", "Transfer-Encoding",
	"Upgrade",
};

const char *
http_reason(int status)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Unknown";
}

static void
add(struct buf *out, const char *s)
{
	buf_append(out, s, strlen(s));
}

/* Decimal digits of `n`, in *text, from the returned place to its NUL. */
static const char *
decimal(uint64_t n, char text[24])
{
	char *p = text + 23;

	*p = '\0';
	do
		*--p = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	return p;
}

/* "Date: …\r\n", formatted once a second (RFC 9110 section 5.6.7: English whatever the locale). */
static const char *
date_line(void)
{
	static const char days[] = "SunMonTueWedThuFriSat",
			  months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	static char text[64];
	static time_t last = -1;
	time_t now = (time_t)clock_wall();
	struct tm tm;

	if (now == last || gmtime_r(&now, &tm) == NULL)
		return text;
	last = now;
	snprintf(text, sizeof(text), "Date: %.3s, %02d %.3s %d %02d:%02d:%02d GMT\r\n",
	    days + 3 * tm.tm_wday, tm.tm_mday, months + 3 * tm.tm_mon, tm.tm_year + 1900,
	    tm.tm_hour, tm.tm_min, tm.tm_sec);
	return text;
}

void
http_begin(struct buf *out, int status, bool close)
{
	char digits[24];

	add(out, "HTTP/1.1 ");
	add(out, decimal((uint64_t)status, digits));
	add(out, " ");
	add(out, http_reason(status));
	add(out, "\r\n");
	add(out, date_line());
	if (close)
		add(out, "Connection: close\r\n");
}

/* Values may come from an upstream: one with a line's end in it would write fields of its own. */
static bool
is_clean(const char *s)
{
	for (; *s != '\0'; s++)
		if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
			return false;
	return true;
}

static bool
is_field_name(const char *s)
{
	return *s != '\0' && is_clean(s) && strpbrk(s, ": \t") == NULL;
}

void
http_field(struct buf *out, const char *name, const char *value)
{
	if (!is_field_name(name) || !is_clean(value))
		return;
	add(out, name);
	add(out, ": ");
	add(out, value);
	add(out, "\r\n");
}

void
http_field_u64(struct buf *out, const char *name, uint64_t value)
{
	char digits[24];

	http_field(out, name, decimal(value, digits));
}

void
http_end(struct buf *out)
{
	add(out, "\r\n");
}

bool
http_is_hop_by_hop(const char *name)
{
	for (size_t i = 0; i < sizeof(hop_by_hop) / sizeof(hop_by_hop[0]); i++)
		if (http_name_is(name, hop_by_hop[i]))
			return true;
	return false;
}

bool
http_connection_names(const char *connection, const char *name)
{
	size_t n = strlen(name);

	while (connection != NULL && *connection != '\0') {
		size_t skip = strspn(connection, ", \t"), len = strcspn(connection + skip, ", \t");

		if (len == n && strncasecmp(connection + skip, name, n) == 0)
			return true;
		connection += skip + len;
	}
	return false;
}

/* A string of JSON is UTF-8: what is not ASCII in a message (it may come from the wire) becomes
 * "?". */
static json_t *
ascii_string(const char *s)
{
	size_t n = strlen(s);
	char *copy = xstrndup(s, n);
	json_t *string;

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)copy[i] >= 0x80)
			copy[i] = '?';
	string = json_string(copy);
	free(copy);
	return string;
}

const char *
http_error_body(struct arena *arena, const char *code, const char *message)
{
	json_t *body = json_pack("{s:[{s:o,s:o,s:n}]}", "errors", "code", ascii_string(code), "message",
	    ascii_string(message), "detail");
	char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
	const char *copy;

	if (text == NULL)
		panic("cannot make an error body");
	copy = arena_printf(arena, "%s\n", text);
	free(text);
	json_decref(body);
	return copy;
}
