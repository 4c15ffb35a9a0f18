/* The configuration: files that are none, monstrous ones, and every way to break a good one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "buf.h"
#include "clock.h"
#include "conf.h"
#include "conf_error.h"
#include "conf_trial.h"
#include "conf_yaml.h"
#include "scratch.h"
#include "suites.h"
#include "xalloc.h"

/* --- files ------------------------------------------------------------------------------------ */

/* conf_load() of `path` says exactly `lines` and loads nothing. */
static void
load_refused(const char *path, const char *lines)
{
	char *errors = NULL;
	size_t size;
	FILE *f = open_memstream(&errors, &size);

	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	CU_ASSERT_PTR_NULL(conf_load(path, f));
	fclose(f);
	CU_ASSERT_STRING_EQUAL(errors, lines);
	free(errors);
}

/* A file of its own with this content; the caller unlinks and frees. */
static char *
write_file(const char *data, size_t len)
{
	const char *dir = getenv("TMPDIR");
	char *path = xasprintf("%s/conf-test.XXXXXX", dir == NULL ? "/tmp" : dir);
	int fd = mkstemp(path);

	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL_FATAL(write(fd, data, len), (ssize_t)len);
	close(fd);
	return path;
}

static void
file_refused(const char *data, size_t len, const char *message)
{
	char *path = write_file(data, len), *line = xasprintf("%s%s\n", path, message);

	load_refused(path, line);
	unlink(path);
	free(path);
	free(line);
}

static void
files_that_are_none_have_their_own_messages(void)
{
	char *dir = data_path("");
	char *line =
	    xasprintf("%s: cannot be read: Is a directory, expected a configuration file\n", dir);

	load_refused(dir, line);
	load_refused("/nonexistent/conf.yaml",
	    "/nonexistent/conf.yaml: cannot be opened: No such file or directory, "
	    "expected a configuration file\n");
	file_refused("", 0, ":1:1: the file is empty, expected dataPath and server");
	file_refused("\n# a\n\n", 6, ":1:1: the file is empty, expected dataPath and server");
	file_refused("---\n", 4, ":1:1: the file is empty, expected dataPath and server");
	file_refused("\x7f"
		     "ELF\2\1\1",
	    7, ":1:1: control character 0x7f, expected a text file");
	free(line);
	free(dir);
}

static void
a_file_may_have_one_mebibyte(void)
{
	char *data = xmalloc(CONF_MAX_BYTES + 1), *path;
	struct conf *c;

	memset(data, '#', CONF_MAX_BYTES + 1);
	memcpy(data, MINIMAL, strlen(MINIMAL));
	file_refused(data, CONF_MAX_BYTES + 1,
	    ":1:1: the file is larger than 1 MiB, expected a smaller one");
	path = write_file(data, CONF_MAX_BYTES);
	c = conf_load(path, stderr);
	CU_ASSERT_PTR_NOT_NULL(c);
	conf_free(&c);
	unlink(path);
	free(path);
	free(data);
}

/* `unit` over and over, in all at most 1 MiB. */
static char *
repeated(const char *unit)
{
	size_t n = strlen(unit), count = CONF_MAX_BYTES / n;
	char *text = xmalloc(count * n + 1);

	for (size_t i = 0; i < count; i++)
		memcpy(text + i * n, unit, n);
	text[count * n] = '\0';
	return text;
}

static void
monstrous_files_are_refused_soon(void)
{
	static const char *const units[] = {"[", "{", "- ", "? ", "a: ", "[a: ", "{a: [", "\"", "'",
	    "!", "&a ", "a: 1\n", "- 1\n", "[],", "a\n", " ", "\t", "---\n", "...\n", "%YAML 1.2\n",
	    "#", "|", ">\n", "*a ", "\xc3\xa4", "\r", ": "};

	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
		char *text = repeated(units[i]);
		uint64_t began = clock_ms();

		refused(text, "t:…");
		CU_ASSERT(clock_ms() - began < 60000);
		free(text);
	}
}

static void
deep_nesting_is_refused(void)
{
	char text[256] = MINIMAL "user: ";
	size_t n = strlen(text);

	for (unsigned i = 0; i < CONF_MAX_DEPTH; i++)
		text[n + i] = '[';
	for (unsigned i = 0; i < CONF_MAX_DEPTH; i++)
		text[n + CONF_MAX_DEPTH + i] = ']';
	refused(text, "t:6:37: nested too deeply, expected fewer than 32 levels\n");
	memset(text + n, '[', CONF_MAX_DEPTH - 2);
	memset(text + n + CONF_MAX_DEPTH - 2, ']', CONF_MAX_DEPTH - 2);
	text[n + 2 * (CONF_MAX_DEPTH - 2)] = '\0';
	refused(text, "t:6:7: user: a list, expected a name\n");
}

static void
a_file_full_of_mistakes_does_not_flood(void)
{
	struct buf b = {0};
	struct outcome o;
	size_t lines = 0;

	buf_append(&b, MINIMAL, strlen(MINIMAL));
	for (unsigned i = 0; i < 30000; i++)
		buf_printf(&b, "worker%u: %u\n", i, i);
	o = parse_bytes((const char *)buf_data(&b), buf_len(&b));
	for (const char *s = o.errors; (s = strchr(s, '\n')) != NULL; s++)
		lines++;
	CU_ASSERT_EQUAL(lines, CONF_ERRORS_MAX + 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(o.errors, "\nt: 29000 more mistakes are not shown\n"));
	CU_ASSERT_PTR_NULL(o.conf);
	drop(&o);
	buf_free(&b);
}

/* --- broken in every way ---------------------------------------------------------------------- */

/* Either a configuration, which survives printing, or lines that all begin with the file's name. */
static void
conf_or_reason(const char *text, size_t len)
{
	struct outcome o;
	bool good;

	alarm(60); /* an endless loop ends the tests */
	o = parse_bytes(text, len);
	if (o.conf != NULL) {
		good = *o.errors == '\0' && survives_printing(o.conf);
	} else {
		good = *o.errors != '\0';
		for (const char *s = o.errors; good && *s != '\0'; s = strchr(s, '\n') + 1)
			good = strncmp(s, "t:", 2) == 0 && strchr(s, '\n') != NULL;
	}
	if (!good)
		fprintf(stderr, "--- for\n%.*s\n--- got\n%s\n", (int)len, text, o.errors);
	CU_ASSERT_TRUE(good);
	drop(&o);
	alarm(0);
}

static void
every_truncation_is_read_or_refused(void)
{
	char *text = read_data("every-option.yaml");
	size_t len = strlen(text);

	for (size_t n = 0; n <= len; n++)
		conf_or_reason(text, n);
	free(text);
}

/* Changes a text of *len bytes, which has room for 64 more, in one place. */
static void
mutate(char *text, size_t *len, uint64_t *state)
{
	static const char *const bits[] = {"\n", ":", ": ", "- ", "\"", "'", "[", "]", "{", "}",
	    ",", "#", "&a", "*a", "!", "!!str ", "|", ">", "%", "@", "`", "?", "? ", "---\n",
	    "...\n", "~", "\t", " ", "  ", "\r\n", "\\", "<<: ", "\xc3\xa4", "\xe2\x80\xa8",
	    "\xef\xbb\xbf", "\xff", "\x01", "$group1", "(", ")", "0", "-1", "99999999999999999999",
	    "null", "true", "1m", "1TB", "\nserver:\n", "\n  - "};
	size_t at = random_next(state) % (*len + 1), n;
	const char *bit = bits[random_next(state) % (sizeof(bits) / sizeof(*bits))];

	switch (random_next(state) % 4) {
	case 0: /* another byte */
		if (at < *len)
			text[at] = (char)random_next(state);
		break;
	case 1: /* bytes left out */
		n = random_next(state) % 40;
		n = n < *len - at ? n : *len - at;
		memmove(text + at, text + at + n, *len - at - n);
		*len -= n;
		break;
	case 2: /* something put in */
		n = strlen(bit);
		memmove(text + at + n, text + at, *len - at);
		memcpy(text + at, bit, n);
		*len += n;
		break;
	default: /* a copy of what stands here */
		n = random_next(state) % 40;
		n = n < *len - at ? n : *len - at;
		memmove(text + at + n, text + at, *len - at);
		*len += n;
		break;
	}
}

/* Everything that is written to standard error meanwhile goes to a file of no name; its size. */
static int
begin_silence(int *saved)
{
	FILE *f = tmpfile();
	int fd;

	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fd = dup(fileno(f));
	fclose(f);
	*saved = dup(STDERR_FILENO);
	CU_ASSERT_FATAL(fd >= 0 && *saved >= 0 && dup2(fd, STDERR_FILENO) >= 0);
	return fd;
}

static off_t
end_silence(int fd, int saved)
{
	struct stat st;

	CU_ASSERT_FATAL(dup2(saved, STDERR_FILENO) >= 0 && fstat(fd, &st) == 0);
	close(saved);
	close(fd);
	return st.st_size;
}

static void
mutations_are_read_or_refused_and_the_parser_prints_nothing(void)
{
	static const char *const names[] = {"design-example.yaml", "every-option.yaml"};
	uint64_t state = 19700101;
	int saved, fd = begin_silence(&saved);

	for (size_t f = 0; f < 2; f++) {
		char *text = read_data(names[f]), *copy = xmalloc(strlen(text) + 16 * 64);

		for (unsigned i = scratch_rounds(10000); i > 0; i--) {
			size_t len = strlen(text);

			memcpy(copy, text, len);
			for (uint64_t n = 1 + random_next(&state) % 4; n > 0; n--)
				mutate(copy, &len, &state);
			conf_or_reason(copy, len);
		}
		free(copy);
		free(text);
	}
	CU_ASSERT_EQUAL(end_silence(fd, saved), 0);
}

void
suite_conf_broken(void)
{
	CU_pSuite s = CU_add_suite("conf_broken", NULL, NULL);

#define TEST(f) CU_add_test(s, #f, f)
	TEST(files_that_are_none_have_their_own_messages);
	TEST(a_file_may_have_one_mebibyte);
	TEST(monstrous_files_are_refused_soon);
	TEST(deep_nesting_is_refused);
	TEST(a_file_full_of_mistakes_does_not_flood);
	TEST(every_truncation_is_read_or_refused);
	TEST(mutations_are_read_or_refused_and_the_parser_prints_nothing);
#undef TEST
}
