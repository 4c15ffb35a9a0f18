/* Passwords of clients, tried by a thread.
 *
 * The life of a trial: WAITING in the queue, TRYING in the thread, TRIED when the thread is through with
 * it; then the loop tells all that wait and frees it. The queue and the states are under `lock`; the rest
 * of a trial is the thread's while it is TRYING, and the loop's before and after. */
#include "login.h"

#include <crypt.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include <event2/event.h>
#include <openssl/crypto.h>

#include "clock.h"
#include "log.h"
#include "thread.h"
#include "users.h"
#include "xalloc.h"

enum { KEY_BYTES = 16, REMEMBERED = 1024, ADDRESS_SIZE = 64 };

enum trial_state { WAITING, TRYING, TRIED };

/* One place a key: a newer one takes it. */
struct memory {
	uint8_t key[KEY_BYTES];
	uint64_t until; /* clock_ms; 0: free */
};

struct trial {
	TAILQ_ENTRY(trial) entry;
	enum trial_state state;
	uint8_t key[KEY_BYTES];
	char address[ADDRESS_SIZE];
	const char *hash;   /* the user's, or a decoy … */
	bool is_user;       /* … which opens nothing */
	char *password;     /* wiped when it was tried */
	bool right;
	TAILQ_HEAD(, login_ticket) waiting;
};

struct login_ticket {
	TAILQ_ENTRY(login_ticket) entry;
	struct trial *trial;
	login_fn *told;
	void *arg;
};

struct login {
	const struct users *users;
	struct secret *secret;
	struct memory right[REMEMBERED], wrong[REMEMBERED];
	struct event *tried;
	int tried_fd;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work;
	bool stop;
	TAILQ_HEAD(, trial) trials; /* oldest first */
	unsigned n;
	char last[ADDRESS_SIZE]; /* whose turn it was */
};

/* --- the thread ------------------------------------------------------------------------------- */

/* The oldest of another address than the last one, else the oldest. */
static struct trial *
next_trial(struct login *l)
{
	struct trial *t, *same = NULL;

	TAILQ_FOREACH(t, &l->trials, entry)
	{
		if (t->state != WAITING)
			continue;
		if (strcmp(t->address, l->last) != 0)
			return t;
		if (same == NULL)
			same = t;
	}
	return same;
}

static bool
is_right(const struct trial *t, struct crypt_data *data)
{
	const char *made = crypt_r(t->password, t->hash, data);
	size_t n = strlen(t->hash);
	bool same = made != NULL && *made != '*' && strlen(made) == n &&
	    CRYPTO_memcmp(made, t->hash, n) == 0;

	explicit_bzero(data, sizeof(*data));
	return same && t->is_user;
}

static void
wipe(char **password)
{
	if (*password == NULL)
		return;
	explicit_bzero(*password, strlen(*password));
	free(*password);
	*password = NULL;
}

static void
say_tried(const struct login *l)
{
	const uint64_t one = 1;

	if (write(l->tried_fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
		panic("cannot write an eventfd");
}

static void *
try_all(void *arg)
{
	struct login *l = arg;
	struct crypt_data *data = xcalloc(1, sizeof(*data));
	struct trial *t;

	pthread_mutex_lock(&l->lock);
	while (!l->stop) {
		t = next_trial(l);
		if (t == NULL) {
			pthread_cond_wait(&l->work, &l->lock);
			continue;
		}
		t->state = TRYING;
		memcpy(l->last, t->address, sizeof(l->last));
		pthread_mutex_unlock(&l->lock);
		t->right = is_right(t, data);
		wipe(&t->password);
		pthread_mutex_lock(&l->lock);
		t->state = TRIED;
		say_tried(l);
	}
	pthread_mutex_unlock(&l->lock);
	free(data);
	return NULL;
}

/* --- what is remembered ----------------------------------------------------------------------- */

static struct memory *
place_of(struct memory *m, const uint8_t key[KEY_BYTES])
{
	return &m[((unsigned)key[0] << 8 | key[1]) % REMEMBERED];
}

static bool
remembers(struct memory *m, const uint8_t key[KEY_BYTES])
{
	const struct memory *place = place_of(m, key);

	return clock_ms() < place->until && CRYPTO_memcmp(place->key, key, KEY_BYTES) == 0;
}

static void
remember(struct memory *m, const uint8_t key[KEY_BYTES], uint64_t until)
{
	struct memory *place = place_of(m, key);

	memcpy(place->key, key, KEY_BYTES);
	place->until = until;
}

/* --- the loop's side -------------------------------------------------------------------------- */

static void
trial_free(struct trial *t)
{
	wipe(&t->password);
	free(t);
}

/* Takes it out of the queue. */
static struct trial *
take_tried(struct login *l)
{
	struct trial *t;

	pthread_mutex_lock(&l->lock);
	TAILQ_FOREACH(t, &l->trials, entry)
	if (t->state == TRIED)
		break;
	if (t != NULL) {
		TAILQ_REMOVE(&l->trials, t, entry);
		l->n--;
	}
	pthread_mutex_unlock(&l->lock);
	return t;
}

/* Those who are told may ask and cancel meanwhile. */
static void
tell(struct trial *t)
{
	struct login_ticket *ticket;

	while ((ticket = TAILQ_FIRST(&t->waiting)) != NULL) {
		login_fn *told = ticket->told;
		void *arg = ticket->arg;

		TAILQ_REMOVE(&t->waiting, ticket, entry);
		free(ticket);
		told(arg, t->right);
	}
}

static void
on_tried(evutil_socket_t fd, short what, void *arg)
{
	struct login *l = arg;
	struct trial *t;
	uint64_t count;

	(void)what;
	if (read(fd, &count, sizeof(count)) != (ssize_t)sizeof(count))
		return;
	while ((t = take_tried(l)) != NULL) {
		if (t->right)
			remember(l->right, t->key, UINT64_MAX);
		else
			remember(l->wrong, t->key, clock_ms() + LOGIN_WRONG_MS);
		tell(t);
		trial_free(t);
	}
}

struct login *
login_new(struct event_base *base, const struct users *users, const uint8_t key[SECRET_BYTES])
{
	struct login *l = xcalloc(1, sizeof(*l));

	l->users = users;
	l->secret = secret_new(key);
	TAILQ_INIT(&l->trials);
	l->tried_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->tried = event_new(base, l->tried_fd, EV_READ | EV_PERSIST, on_tried, l);
	if (l->tried_fd < 0 || l->tried == NULL || event_add(l->tried, NULL) != 0 ||
	    pthread_mutex_init(&l->lock, NULL) != 0 || pthread_cond_init(&l->work, NULL) != 0)
		panic("cannot make what passwords are tried with");
	if (thread_start(&l->thread, try_all, l) != 0)
		fatal("cannot start the thread that tries passwords");
	return l;
}

void
login_free(struct login **lp)
{
	struct login *l = *lp;
	struct trial *t;

	if (l == NULL)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_signal(&l->work);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->thread, NULL);
	while ((t = TAILQ_FIRST(&l->trials)) != NULL) {
		struct login_ticket *ticket;

		TAILQ_REMOVE(&l->trials, t, entry);
		while ((ticket = TAILQ_FIRST(&t->waiting)) != NULL) {
			TAILQ_REMOVE(&t->waiting, ticket, entry);
			free(ticket);
		}
		trial_free(t);
	}
	pthread_cond_destroy(&l->work);
	pthread_mutex_destroy(&l->lock);
	event_free(l->tried);
	close(l->tried_fd);
	secret_free(&l->secret);
	explicit_bzero(l, sizeof(*l));
	free(l);
	*lp = NULL;
}

/* The trial of this key; NULL: there is none. *from_there: how many that address has waiting. */
static struct trial *
find(struct login *l, const uint8_t key[KEY_BYTES], const char *address, unsigned *from_there)
{
	struct trial *t;

	*from_there = 0;
	TAILQ_FOREACH(t, &l->trials, entry)
	{
		if (memcmp(t->key, key, KEY_BYTES) == 0)
			return t;
		*from_there += strcmp(t->address, address) == 0;
	}
	return NULL;
}

static struct trial *
trial_new(struct login *l, const uint8_t key[KEY_BYTES], const char *name, const char *password,
    const char *address)
{
	struct trial *t = xcalloc(1, sizeof(*t));
	const char *hash = users_hash(l->users, name);

	memcpy(t->key, key, KEY_BYTES);
	memcpy(t->address, address, strnlen(address, sizeof(t->address) - 1));
	t->is_user = hash != NULL;
	t->hash = hash != NULL ? hash : users_decoy(l->users);
	t->password = xstrdup(password);
	TAILQ_INIT(&t->waiting);
	pthread_mutex_lock(&l->lock);
	TAILQ_INSERT_TAIL(&l->trials, t, entry);
	l->n++;
	pthread_cond_signal(&l->work);
	pthread_mutex_unlock(&l->lock);
	return t;
}

enum login_answer
login_ask(struct login *l, const char *name, const char *password, const char *address,
    login_fn *told, void *arg, struct login_ticket **ticket)
{
	const char *const words[] = {"login", name, password};
	uint8_t key[SECRET_BYTES];
	unsigned from_there;
	struct trial *t;

	secret_mac(l->secret, words, sizeof(words) / sizeof(words[0]), key);
	if (remembers(l->right, key))
		return LOGIN_YES;
	if (remembers(l->wrong, key))
		return LOGIN_NO;
	t = find(l, key, address, &from_there);
	if (t == NULL && (l->n >= LOGIN_MAX_WAITING || from_there >= LOGIN_PER_ADDRESS))
		return LOGIN_BUSY;
	if (t == NULL)
		t = trial_new(l, key, name, password, address);
	*ticket = xcalloc(1, sizeof(**ticket));
	**ticket = (struct login_ticket){.trial = t, .told = told, .arg = arg};
	TAILQ_INSERT_TAIL(&t->waiting, *ticket, entry);
	return LOGIN_WAIT;
}

/* Its trial goes on: that what is wrong is known then is worth it. */
void
login_cancel(struct login_ticket **t)
{
	if (*t == NULL)
		return;
	TAILQ_REMOVE(&(*t)->trial->waiting, *t, entry);
	free(*t);
	*t = NULL;
}
