/* Who is asking? Where clients authenticate to the cache itself, that comes before all else: who does not
 * learns nothing, not even what paths there are. */
#include <string.h>

#include "http_basic.h"
#include "login.h"
#include "request_private.h"
#include "shm.h"
#include "tls.h"

static enum step
welcome(struct request *req)
{
	request_goto(req, REQUEST_ROUTE);
	return STEP_NEXT;
}

static enum step
turn_away(struct request *req)
{
	shm_count(req->s->shm, req->s->listener, COUNT_STRANGERS, 1);
	return request_fail(req, 401, "UNAUTHORIZED", "this cache wants a user and password of its own");
}

/* "\" and '"' in a quoted-string (RFC 9110 section 5.6.4). */
static const char *
quoted(struct request *req, const char *text)
{
	char *out = arena_alloc(&req->arena, 2 * strlen(text) + 1), *to = out;

	for (; out != NULL && *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			*to++ = '\\';
		*to++ = *text;
	}
	return out != NULL ? out : "";
}

void
request_challenge(struct request *req, struct buf *out)
{
	if (req->s->login != NULL)
		http_field(out, "WWW-Authenticate",
		    arena_printf(&req->arena, "Basic realm=\"%s\"", quoted(req, req->s->realm)));
}

static void
on_told(void *arg, bool known)
{
	struct request *req = arg;
	struct conn *c = req->conn;

	req->login = NULL;
	req->known = known;
	request_drive(c);
}

static enum step
ask(struct request *req)
{
	const char *authorization = http_header_get(&req->head, "Authorization");
	struct http_basic who;
	enum login_answer answer = LOGIN_NO;

	if (http_basic_read(authorization, &who)) {
		req->user = arena_strdup(&req->arena, who.name);
		answer = login_ask(req->s->login, who.name, who.password, conn_address(req->conn),
		    on_told, req, &req->login);
	}
	explicit_bzero(&who, sizeof(who));
	req->asked_login = true;
	req->known = answer == LOGIN_YES;
	if (answer == LOGIN_BUSY)
		return request_fail(req, 503, "TOOMANYREQUESTS", "too many passwords are being tried");
	return answer == LOGIN_WAIT ? STEP_WAIT : STEP_NEXT;
}

static enum step
step_password(struct request *req)
{
	if (req->login != NULL)
		return STEP_WAIT;
	if (!req->asked_login)
		return ask(req);
	if (req->known)
		return welcome(req);
	req->user = NULL;
	return turn_away(req);
}

static enum step
step_certificate(struct request *req)
{
	const struct tls *tls = conn_tls(req->conn);

	if (tls != NULL && tls_peer_is_verified(tls))
		return welcome(req);
	shm_count(req->s->shm, req->s->listener, COUNT_STRANGERS, 1);
	return request_fail(req, 403, "DENIED", "this cache wants a client certificate");
}

enum step
step_login(struct request *req)
{
	if (req->s->login != NULL)
		return step_password(req);
	return req->s->wants_certificate ? step_certificate(req) : welcome(req);
}
