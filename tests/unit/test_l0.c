/* The lowest layer: arena, buf, digest, log, clock. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "arena.h"
#include "buf.h"
#include "clock.h"
#include "digest.h"
#include "log.h"
#include "suites.h"
#include "xalloc.h"

#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define ABC_SHA256 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define ABC_SHA512 \
	"ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a" \
	"2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"

/* --- arena --------------------------------------------------------------------------------------- */

static void
arena_gives_zeroed_aligned_memory(void)
{
	struct arena a;

	arena_init(&a, 1 << 20);
	for (size_t size = 1; size < 5000; size += 617) {
		unsigned char *p = arena_alloc(&a, size);

		CU_ASSERT_PTR_NOT_NULL_FATAL(p);
		CU_ASSERT_EQUAL((uintptr_t)p % 16, 0);
		for (size_t i = 0; i < size; i++)
			CU_ASSERT_EQUAL_FATAL(p[i], 0);
		memset(p, 0xff, size);
	}
	CU_ASSERT_FALSE(arena_failed(&a));
	arena_reset(&a);
}

static void
arena_copies_stay_apart(void)
{
	struct arena a;
	char *first, *second, *third;

	arena_init(&a, 4096);
	first = arena_strdup(&a, "first");
	second = arena_strndup(&a, "second and more", 6);
	third = arena_printf(&a, "%s+%d", first, 3);
	CU_ASSERT_STRING_EQUAL(first, "first");
	CU_ASSERT_STRING_EQUAL(second, "second");
	CU_ASSERT_STRING_EQUAL(third, "first+3");
	arena_reset(&a);
}

static void
arena_overflow_is_sticky_until_reset(void)
{
	struct arena a;

	arena_init(&a, 100);
	CU_ASSERT_PTR_NOT_NULL(arena_alloc(&a, 64));
	CU_ASSERT_PTR_NULL(arena_alloc(&a, 64));
	CU_ASSERT_TRUE(arena_failed(&a));
	CU_ASSERT_PTR_NULL(arena_alloc(&a, 1)); /* would fit, but the arena has failed */
	CU_ASSERT_STRING_EQUAL(arena_strdup(&a, "x"), "");
	CU_ASSERT_STRING_EQUAL(arena_printf(&a, "%d", 1), "");
	arena_reset(&a);
	CU_ASSERT_FALSE(arena_failed(&a));
	CU_ASSERT_STRING_EQUAL(arena_strdup(&a, "x"), "x");
	arena_reset(&a);
}

static void
arena_refuses_a_size_that_would_wrap(void)
{
	struct arena a;

	arena_init(&a, 4096);
	CU_ASSERT_PTR_NULL(arena_alloc(&a, SIZE_MAX));
	CU_ASSERT_TRUE(arena_failed(&a));
	arena_reset(&a);
}

static void
arena_that_is_idle_owns_nothing(void)
{
	struct arena a;

	arena_init(&a, 4096);
	CU_ASSERT_PTR_NULL(a.blocks);
	arena_strdup(&a, "x");
	CU_ASSERT_PTR_NOT_NULL(a.blocks);
	arena_reset(&a);
	CU_ASSERT_PTR_NULL(a.blocks);
	CU_ASSERT_EQUAL(a.limit, 4096);
}

/* --- buf ----------------------------------------------------------------------------------------- */

static void
buf_is_a_queue(void)
{
	struct buf b = {0};

	buf_append(&b, "hello ", 6);
	buf_printf(&b, "%s", "world");
	CU_ASSERT_EQUAL(buf_len(&b), 11);
	CU_ASSERT_EQUAL(memcmp(buf_data(&b), "hello world", 11), 0);
	buf_consume(&b, 6);
	CU_ASSERT_EQUAL(buf_len(&b), 5);
	CU_ASSERT_EQUAL(memcmp(buf_data(&b), "world", 5), 0);
	buf_free(&b);
	CU_ASSERT_PTR_NULL(b.data);
	CU_ASSERT_EQUAL(buf_len(&b), 0);
}

static void
buf_keeps_its_bytes_while_it_grows_and_moves(void)
{
	struct buf b = {0};
	unsigned next_in = 0, next_out = 0;

	for (int round = 0; round < 2000; round++) {
		unsigned in = 1 + (unsigned)round * 7 % 300, out = 1 + (unsigned)round * 5 % 290;
		unsigned char *room = buf_room(&b, in);

		for (unsigned i = 0; i < in; i++)
			room[i] = (unsigned char)next_in++;
		buf_grew(&b, in);
		for (unsigned i = 0; i < out && buf_len(&b) > 0; i++) {
			CU_ASSERT_EQUAL_FATAL(*buf_data(&b), (unsigned char)next_out++);
			buf_consume(&b, 1);
		}
	}
	CU_ASSERT_EQUAL(buf_len(&b), next_in - next_out);
	buf_free(&b);
}

static void
buf_that_is_emptied_starts_over_in_its_memory(void)
{
	struct buf b = {0};
	unsigned char *data;

	buf_append(&b, "0123456789", 10);
	data = b.data;
	buf_consume(&b, 10);
	CU_ASSERT_EQUAL(b.head, 0);
	CU_ASSERT_EQUAL(b.tail, 0);
	buf_append(&b, "abc", 3);
	CU_ASSERT_PTR_EQUAL(b.data, data);
	buf_append(&b, NULL, 0);
	CU_ASSERT_EQUAL(buf_len(&b), 3);
	buf_free(&b);
}

/* Runs `f` in a child with its words on stderr put away; returns its wait status. */
static int
status_of(void (*f)(void))
{
	int status = -1;
	pid_t pid = fork();

	CU_ASSERT_FATAL(pid >= 0);
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, STDERR_FILENO);
		f();
		_exit(0);
	}
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	return status;
}

static void
consume_too_much(void)
{
	struct buf b = {0};

	buf_append(&b, "x", 1);
	buf_consume(&b, 2);
}

static void
grow_too_much(void)
{
	struct buf b = {0};

	buf_room(&b, 8);
	buf_grew(&b, 9);
}

static void
buf_misuse_is_a_panic(void)
{
	int consumed = status_of(consume_too_much), grown = status_of(grow_too_much);

	CU_ASSERT_TRUE(WIFSIGNALED(consumed) && WTERMSIG(consumed) == SIGABRT);
	CU_ASSERT_TRUE(WIFSIGNALED(grown) && WTERMSIG(grown) == SIGABRT);
}

/* --- digest -------------------------------------------------------------------------------------- */

static enum digest_parse
parse(const char *s, struct digest *d)
{
	return digest_parse(s, strlen(s), d);
}

static void
digest_reads_and_writes_both_algorithms(void)
{
	static const char *const texts[] = {"sha256:" ABC_SHA256, "sha512:" ABC_SHA512};
	char out[DIGEST_STR_SIZE];
	struct digest d;

	for (size_t i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL(parse(texts[i], &d), DIGEST_OK);
		CU_ASSERT_EQUAL(d.len, i == 0 ? 32 : 64);
		CU_ASSERT_STRING_EQUAL(digest_str(&d, out), texts[i]);
		CU_ASSERT_STRING_EQUAL(digest_hex(&d, out), texts[i] + 7);
		CU_ASSERT_STRING_EQUAL(digest_algo_name(d.algo), i == 0 ? "sha256" : "sha512");
	}
}

static void
digest_refuses_bad_forms(void)
{
	static const char *const bad[] = {
		"", ":", "sha256", "sha256:", "sha256:abc", ABC_SHA256,
		"sha256:" ABC_SHA256 "0",                /* too long */
		"sha512:" ABC_SHA256,                    /* another's length */
		"sha256:" ABC_SHA512,
		"sha256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD",
		"sha256:za7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha256:../../../../../../../../../../../../../../../../../../etc/passwd/.",
		"SHA256:" ABC_SHA256,                    /* the grammar has lower case only */
		":" ABC_SHA256, "md/5:abc", "md5:ab/c", "md5:", "md5:a b",
	};
	struct digest d, zero = {0};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		memset(&d, 0xff, sizeof(d));
		CU_ASSERT_EQUAL(parse(bad[i], &d), DIGEST_BAD);
		CU_ASSERT_EQUAL(memcmp(&d, &zero, sizeof(d)), 0);
	}
}

static void
digest_tells_an_unknown_algorithm_from_nonsense(void)
{
	static const char *const unknown[] = {
		"md5:d41d8cd98f00b204e9800998ecf8427e", "blake3:AbC=_-9", "multihash+base58:QmRZxt2b1",
		"sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564",
	};
	struct digest d, zero = {0};

	for (size_t i = 0; i < sizeof(unknown) / sizeof(*unknown); i++) {
		memset(&d, 0xff, sizeof(d));
		CU_ASSERT_EQUAL(parse(unknown[i], &d), DIGEST_UNKNOWN);
		CU_ASSERT_EQUAL(memcmp(&d, &zero, sizeof(d)), 0);
	}
	CU_ASSERT_EQUAL(digest_parse("md5:a\0b", 7, &d), DIGEST_BAD);
	CU_ASSERT_EQUAL(digest_parse("md\0:ab", 6, &d), DIGEST_BAD);
}

static void
digest_never_reads_beyond_its_length(void)
{
	char *text = xmalloc(71);
	struct digest d;

	memcpy(text, "sha256:" ABC_SHA256, 71); /* no NUL: a read beyond is seen by the sanitizer */
	CU_ASSERT_EQUAL(digest_parse(text, 71, &d), DIGEST_OK);
	CU_ASSERT_EQUAL(digest_parse(text, 70, &d), DIGEST_BAD);
	CU_ASSERT_EQUAL(digest_parse(text, 6, &d), DIGEST_BAD);
	free(text);
}

static void
digest_keys_go_there_and_back(void)
{
	uint8_t key[DIGEST_KEY_MAX], other_key[DIGEST_KEY_MAX];
	struct digest a, b, back;
	size_t len;

	CU_ASSERT_EQUAL(parse("sha256:" ABC_SHA256, &a), DIGEST_OK);
	CU_ASSERT_EQUAL(parse("sha512:" ABC_SHA512, &b), DIGEST_OK);
	CU_ASSERT_FALSE(digest_equal(&a, &b));
	len = digest_key(&a, key);
	CU_ASSERT_EQUAL(len, 33);
	CU_ASSERT_EQUAL(digest_key(&b, other_key), 65);
	CU_ASSERT_TRUE(digest_from_key(key, len, &back));
	CU_ASSERT_TRUE(digest_equal(&a, &back));
	CU_ASSERT_FALSE(digest_from_key(key, len - 1, &back));
	CU_ASSERT_FALSE(digest_from_key(key, 0, &back));
	key[0] = 9;
	CU_ASSERT_FALSE(digest_from_key(key, len, &back));
}

static void
check_hash(enum digest_algo algo, const char *data, size_t step, const char *want)
{
	struct hasher *h = hasher_new(algo);
	char out[DIGEST_STR_SIZE];
	size_t len = strlen(data);
	struct digest d;

	for (size_t at = 0; at < len; at += step)
		hasher_update(h, data + at, len - at < step ? len - at : step);
	hasher_final(h, &d);
	CU_ASSERT_STRING_EQUAL(digest_str(&d, out), want);
	hasher_free(&h);
	CU_ASSERT_PTR_NULL(h);
	hasher_free(&h);
}

static void
hasher_knows_the_published_test_vectors(void)
{
	check_hash(DIGEST_SHA256, "", 1, "sha256:" EMPTY_SHA256);
	check_hash(DIGEST_SHA256, "abc", 3, "sha256:" ABC_SHA256);
	check_hash(DIGEST_SHA256, "abc", 1, "sha256:" ABC_SHA256);
	check_hash(DIGEST_SHA512, "abc", 2, "sha512:" ABC_SHA512);
}

/* --- log ----------------------------------------------------------------------------------------- */

/* Logs in a child (the log's destination cannot be taken back) and returns what was written. Owned by the caller. */
static char *
logged_by(void (*f)(void), int *status)
{
	char path[] = "/tmp/registry-cache-log-XXXXXX";
	int fd = mkstemp(path);
	char *text;
	pid_t pid;

	CU_ASSERT_FATAL(fd >= 0);
	pid = fork();
	CU_ASSERT_FATAL(pid >= 0);
	if (pid == 0) {
		if (!log_open_file(path))
			_exit(99);
		log_set_role("tester");
		log_set_level(LOG_L_INFO);
		f();
		_exit(0);
	}
	CU_ASSERT_EQUAL(waitpid(pid, status, 0), pid);
	text = xcalloc(1, 65536);
	CU_ASSERT(read(fd, text, 65535) >= 0);
	close(fd);
	unlink(path);
	return text;
}

static unsigned
lines_of(const char *text)
{
	unsigned n = 0;

	for (; *text != '\0'; text++)
		n += *text == '\n';
	return n;
}

static void
log_hostile_text(void)
{
	log_info("path %s end", "a\r\n2026-01-01T00:00:00.000 error master: forged\x1b[31m\x7f\ttab");
	log_access(&(struct log_field){"agent", "x\ny", 0}, 1);
	log_flush();
}

static void
log_takes_control_characters_away(void)
{
	int status;
	char *text = logged_by(log_hostile_text, &status);

	CU_ASSERT_EQUAL(status, 0);
	CU_ASSERT_EQUAL(lines_of(text), 2); /* one a call, whatever the wire sent */
	for (const char *p = text; *p != '\0'; p++)
		CU_ASSERT_TRUE(*p == '\n' || ((unsigned char)*p >= 0x20 && *p != 0x7f));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, " info tester: path a  2026-01-01T00:00:00.000 error master: forged [31m  tab end\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, " access tester: agent=x y\n"));
	free(text);
}

static void
log_at_every_level(void)
{
	log_error("one");
	log_warn("two");
	log_info("three");
	log_debug("four");
	log_set_level(LOG_L_TRACE);
	log_trace("five");
}

static void
log_leaves_out_what_is_below_its_level(void)
{
	int status;
	char *text = logged_by(log_at_every_level, &status);

	CU_ASSERT_EQUAL(status, 0);
	CU_ASSERT_EQUAL(lines_of(text), 4);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "error tester: one\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "info tester: three\n"));
	CU_ASSERT_PTR_NULL(strstr(text, "four"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "trace tester: five\n"));
	free(text);
}

static void
log_a_very_long_line(void)
{
	char *longer = xmalloc(10001);

	memset(longer, 'a', 10000);
	longer[10000] = '\0';
	log_info("%s", longer);
	for (int i = 0; i < 20; i++)
		log_access(&(struct log_field){"a", longer, 0}, 1); /* more than the block holds */
	log_flush();
	free(longer);
}

static void
log_cuts_a_line_that_is_too_long(void)
{
	int status;
	char *text = logged_by(log_a_very_long_line, &status);

	CU_ASSERT_EQUAL(status, 0);
	CU_ASSERT_TRUE(strlen(text) > 4000);
	CU_ASSERT_TRUE(strcspn(text, "\n") < 4096);
	free(text);
}

static void
log_keeps_errno(void)
{
	log_set_level(LOG_L_INFO);
	errno = ENOENT;
	log_debug("not shown");
	CU_ASSERT_EQUAL(errno, ENOENT);
}

static void
fatal_after_an_access_line(void)
{
	log_access(&(struct log_field){"the", "last one", 0}, 1);
	fatal("no disk");
}

static void
panic_now(void)
{
	panic("impossible");
}

static void
log_fatal_exits_1_and_panic_aborts(void)
{
	int status;
	char *text = logged_by(fatal_after_an_access_line, &status);

	CU_ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "access tester: the=last one\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "fatal tester: no disk\n"));
	free(text);
	text = logged_by(panic_now, &status);
	CU_ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "panic tester: impossible\n"));
	free(text);
}

/* --- clock --------------------------------------------------------------------------------------- */

static void
clock_never_steps_back(void)
{
	uint64_t last = clock_ms();

	CU_ASSERT_TRUE(last > 0);
	for (int i = 0; i < 10000; i++) {
		uint64_t now = clock_ms();

		CU_ASSERT_TRUE_FATAL(now >= last);
		last = now;
	}
}

static void
clock_counts_in_its_units(void)
{
	struct timespec boot;
	time_t before = time(NULL);
	int64_t wall = clock_wall();
	uint64_t ms;

	CU_ASSERT_TRUE(wall >= before && wall <= time(NULL));
	clock_gettime(CLOCK_BOOTTIME, &boot);
	ms = clock_ms();
	CU_ASSERT_TRUE(ms / 1000 >= (uint64_t)boot.tv_sec && ms / 1000 <= (uint64_t)boot.tv_sec + 60);
}

static void
add(CU_pSuite s, const char *name, CU_TestFunc f)
{
	CU_add_test(s, name, f);
}

static void
add_digest_suite(void)
{
	CU_pSuite s = CU_add_suite("digest", NULL, NULL);

	add(s, "reads and writes sha256 and sha512", digest_reads_and_writes_both_algorithms);
	add(s, "refuses bad forms", digest_refuses_bad_forms);
	add(s, "tells an unknown algorithm from nonsense", digest_tells_an_unknown_algorithm_from_nonsense);
	add(s, "never reads beyond its length", digest_never_reads_beyond_its_length);
	add(s, "keys go there and back", digest_keys_go_there_and_back);
	add(s, "the hasher knows the published test vectors", hasher_knows_the_published_test_vectors);
}

static void
add_log_and_clock_suites(void)
{
	CU_pSuite s = CU_add_suite("log", NULL, NULL);

	add(s, "takes control characters away", log_takes_control_characters_away);
	add(s, "leaves out what is below its level", log_leaves_out_what_is_below_its_level);
	add(s, "cuts a line that is too long", log_cuts_a_line_that_is_too_long);
	add(s, "keeps errno", log_keeps_errno);
	add(s, "fatal exits 1, panic aborts", log_fatal_exits_1_and_panic_aborts);
	s = CU_add_suite("clock", NULL, NULL);
	add(s, "never steps back", clock_never_steps_back);
	add(s, "counts in its units", clock_counts_in_its_units);
}

void
suite_l0(void)
{
	CU_pSuite s = CU_add_suite("arena", NULL, NULL);

	add(s, "gives zeroed, aligned memory", arena_gives_zeroed_aligned_memory);
	add(s, "copies stay apart", arena_copies_stay_apart);
	add(s, "overflow is sticky until reset", arena_overflow_is_sticky_until_reset);
	add(s, "refuses a size that would wrap", arena_refuses_a_size_that_would_wrap);
	add(s, "an idle one owns nothing", arena_that_is_idle_owns_nothing);
	s = CU_add_suite("buf", NULL, NULL);
	add(s, "is a queue", buf_is_a_queue);
	add(s, "keeps its bytes while it grows and moves", buf_keeps_its_bytes_while_it_grows_and_moves);
	add(s, "an emptied one starts over in its memory", buf_that_is_emptied_starts_over_in_its_memory);
	add(s, "misuse is a panic", buf_misuse_is_a_panic);
	add_digest_suite();
	add_log_and_clock_suites();
}
