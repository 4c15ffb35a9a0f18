/* What fill.c (table, clients), fill_lead.c (queue, lease, publishing), fill_fetch.c (the
 * transfer) and fill_follow.c share. Nobody else includes this. */
#ifndef FILL_PRIVATE_H
#define FILL_PRIVATE_H

#include <sys/queue.h>

#include "buf.h"
#include "fill.h"
#include "shm.h"
#include "turns.h"

struct event;
struct upstream_answer;
struct registry_call;

enum fill_phase {
	PHASE_QUEUED,
	PHASE_ADOPT,
	PHASE_REHASH,
	PHASE_FETCH,
	PHASE_DECODE,
	PHASE_FOLLOW,
	PHASE_ENDED
};
const char *fill_phase_name(enum fill_phase p);

enum {
	FILL_GATHER = 256 * 1024,   /* bytes gathered before they are written */
	FILL_STEP = 1024 * 1024,    /* bytes hashed of a file in one turn of the loop */
	FILL_FLUSH = 8 * 1024 * 1024, /* bytes after which write-back is started */
};

/* The fill slot's `status` when a fill has failed: the reason, for followers, above HTTP's
 * numbers. */
enum {
	FILL_STATUS_HASHING = 999, /* it has not failed: its leader adopts a file */
	FILL_STATUS_REASON = 1000,
};

struct fill_client {
	TAILQ_ENTRY(fill_client) link;    /* of its fill */
	TAILQ_ENTRY(fill_client) pending; /* of fills.pending, while `told` is due */
	struct fill *fill;
	fill_changed_fn *changed;
	void *arg;
	bool checked, origin, due;
	uint32_t upstream_hash; /* of the upstream that it would ask */
	uint64_t due_turn; /* fills.turn when it became due */
};
TAILQ_HEAD(fill_clients, fill_client);

/* What a leader needs to ask upstream; its own copies. */
struct fill_source {
	char *scheme, *host, *target, *authorization, *accept, *unproven;
	unsigned registry, first_host;
	uint64_t deadline_ms; /* of the first answer; 0: none */
	enum object_kind kind;
};

enum fill_coding { CODING_NONE, CODING_GZIP, CODING_DEFLATE, CODING_OTHER };
struct decoder;

struct fill {
	LIST_ENTRY(fill) link; /* of its bucket, until it has ended */
	TAILQ_ENTRY(fill) all; /* of fills.all, oldest first, until it has ended */
	struct fills *fills;
	struct digest digest;
	enum fill_phase phase;
	enum fill_end end;
	struct fill_clients clients;
	struct fill_ref ref; /* seq 0: no slot */
	struct index_lease lease;
	int fd;
	dev_t device;
	ino_t inode;
	uint32_t upstream_hash; /* of the upstream that is asked; 0: not known */
	int64_t size;    /* -1: not known */
	uint64_t bytes; /* in the file, all hashed when this process leads */
	bool verified;  /* digest right */
	bool hashing;   /* FOLLOW: the leader adopts a file */
	bool vouched;   /* the upstream answered the source's credentials with success */
	char media_type[INDEX_MEDIA_TYPE_SIZE];
	struct refusal *refusal;
	struct notes *notes; /* of the answer to its origin's credentials, until taken; NULL: none */
	/* leading only */
	bool has_lease, resumed;
	bool inherited; /* some of its bytes, or all, were on disk when it began */
	struct fill_source source;
	struct hasher *hasher;
	struct registry_call *call;
	struct registry_call *spare; /* ENDED: not for the store, but its origin may take it */
	struct event *timer;    /* tries again */
	struct buf gather;      /* hashed, not yet written */
	uint64_t skip;          /* bytes that the upstream sends again and that are there already */
	uint64_t flushed;       /* write-back was started up to here */
	uint64_t file_left;     /* ADOPT, REHASH: bytes still to be hashed */
	unsigned client;        /* turns_client() of who wants it led */
	uint64_t since;         /* clock_ms: queued */
	uint64_t failing_since; /* clock_ms: the first failure since the last progress; 0: none */
	unsigned tries;         /* without progress */
	bool had_to_wait;       /* QUEUED: no slot was free */
	bool failed_answer;     /* this answer's body is not the object's */
	uint64_t room_wanted;   /* bytes on disk that it waits for; 0: none */
	uint64_t room_until;    /* clock_ms: how long */
	enum fill_coding coding; /* of what came; not NONE: nothing of it is announced before all is right */
	int64_t encoded_size;    /* … and its length; -1: not said */
	struct decoder *decoder; /* DECODE */
	uint64_t beside;         /* DECODE: what came is on disk, too; bytes there */
	bool decoded;
	unsigned restarts;      /* of what was encoded */
	bool finish_due;        /* all bytes have come while it waits */
	char etag[256];         /* strong, for If-Range; "" when none */
	unsigned etag_host;     /* whose it is, of the registry's */
	unsigned hosts;         /* that it has; 0: one */
	char why[160];          /* how its last try failed */
};
LIST_HEAD(fill_bucket, fill);
TAILQ_HEAD(fill_queue, fill);

enum { FILL_BUCKETS = 256 };

struct fills {
	struct fills_config c;
	struct fill_bucket buckets[FILL_BUCKETS];
	struct fill_queue all;
	struct fill_clients pending;
	struct turns turns;  /* who had a slot, and when */
	uint64_t turn;       /* counts the runs of `tell` */
	struct event *tell;  /* runs the pending clients' functions */
	struct event *work;  /* one step of every ADOPT and REHASH */
	struct event *sweep; /* looks for what waited too long */
	unsigned sweeps;
};

/* fill.c */
struct fill *fill_new(struct fills *fs, const struct digest *d, enum fill_phase phase);
void fill_set_phase(struct fill *f, enum fill_phase phase);
/* News for all its clients, told from the loop. */
void fill_tell(struct fill *f);
/* Takes it out of the table and tells its clients why. The one way to end. */
void fill_ended(struct fill *f, enum fill_end end); /* frees f when it has no client */
/* Takes fd; notes which file it is. */
void fill_use_file(struct fill *f, int fd);

/* The bytes that others may know of. */
uint64_t fill_announced(const struct fill *f);

/* fill_metrics.c */
/* Whom it asks, as a number of shm_metrics.h. */
unsigned fill_target(const struct fill *f);
void fill_measure(const struct fill *f); /* it has succeeded */
void fill_measure_wait(const struct fill *f, bool got_it);

/* fill_lead.c */
void lead_begin(struct fill *f, const struct fill_want *want);
/* Those that are QUEUED try to get a slot and the lease, each in its turn. */
void lead_try(struct fills *fs);
/* ADOPT, REHASH: one step. */
void lead_step(struct fill *f);
/* All bytes are in: judges the digest, publishes. */
void lead_finish(struct fill *f);
/* Gives up, for this reason. Where another may go on with the part, it and its lease stay. */
void lead_abort(struct fill *f, enum fill_end end);
/* A new part and a new hash. False: it ended the fill. */
bool lead_new_part(struct fill *f);
/* The same, and the transfer begins. */
void lead_fetch_afresh(struct fill *f);
void lead_release(struct fill *f); /* frees what only a leader has */

/* fill_fetch.c */
void fetch_start(struct fill *f);
/* What was gathered goes to the file and is announced. False: it ended the fill (which may be
 * freed). */
bool fetch_flush(struct fill *f);
/* The same without announcing and ending. */
bool fetch_write(struct fill *f) __attribute__((warn_unused_result));

/* The transfer has just begun: it is kept for the client that leads. */
void fetch_keep_for_origin(struct fill *f);

/* fill_decode.c */
/* Notes whether the body will be encoded. NULL, or why that cannot be used. */
const char *decode_head(struct fill *f, const struct upstream_answer *a);
/* Its transfer broke: it begins again, or ends the fill. */
void decode_restart(struct fill *f);
/* All has come, and its digest is not the object's. */
void decode_begin(struct fill *f);
/* DECODE: one step. */
void decode_step(struct fill *f);
/* There is room again. */
void decode_resume(struct fill *f);
void decode_release(struct fill *f);

/* fill_space.c. The first two may make the fill wait for room: then its transfer is paused and nothing
 * may be written (space_waits). False: they ended the fill, which may be freed. */
bool space_for_answer(struct fill *f); /* the head has come, with or without a length */
bool space_for_more(struct fill *f);   /* before what was gathered is written */
bool space_waits(const struct fill *f);
void space_retry(struct fill *f); /* one that waits; may end it */
/* A dead leader's part is on disk already. */
void space_inherit(struct fill *f);
/* The part is about to become an object; bytes on disk. */
uint64_t space_becomes_object(struct fill *f);
/* It did not, or the object was removed. */
void space_becomes_none(struct fill *f, uint64_t disk);

/* fill_follow.c */
void follow_begin(struct fill *f, const struct index_lease *lease);
void follow_update(struct fill *f);

#endif
