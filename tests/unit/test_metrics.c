/* Metrics: the text, in both formats, of values that are known; and what is counted in shared memory
 * by whom, for which upstream. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "buf.h"
#include "metrics.h"
#include "suites.h"

/* --- the text --------------------------------------------------------------------------------- */

static char *
text_of(const struct metrics_values *v, enum metrics_format f)
{
	struct buf b = {0};
	char *text;

	metrics_write(v, f, &b);
	text = strndup((const char *)buf_data(&b), buf_len(&b));
	buf_free(&b);
	return text;
}

static void
a_counter_is_named_as_its_format_wants(void)
{
	struct metric_sum *sum = calloc(1, sizeof(*sum));
	struct metrics_values v = {.sum = sum};
	char *plain, *open;

	v.counters[COUNT_RESUMES] = 7;
	plain = text_of(&v, METRICS_PROMETHEUS);
	open = text_of(&v, METRICS_OPENMETRICS);
	CU_ASSERT_PTR_NOT_NULL(strstr(plain, "# TYPE registry_cache_resumes_total counter\n"
					     "registry_cache_resumes_total 7\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(open, "# TYPE registry_cache_resumes counter\n"
					    "registry_cache_resumes_total 7\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(plain, "# TYPE registry_cache_build_info gauge\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(open, "# TYPE registry_cache_build info\n"));
	CU_ASSERT_PTR_NULL(strstr(plain, "# UNIT"));
	CU_ASSERT_PTR_NOT_NULL(strstr(open, "# UNIT registry_cache_sent_bytes bytes\n"));
	CU_ASSERT_PTR_NULL(strstr(plain, "# EOF"));
	CU_ASSERT_STRING_EQUAL(open + strlen(open) - 6, "# EOF\n");
	free(plain);
	free(open);
	free(sum);
}

static void
a_histogram_is_cumulative_and_in_seconds(void)
{
	struct metrics_family f = {"x_seconds", "X.", "seconds", METRICS_HISTOGRAM};
	const uint64_t bucket[] = {1, 0, 3}, bounds[] = {2500, 10000000};
	struct buf b = {0};
	struct metrics_text t = {.out = &b};

	metrics_begin(&t, &f);
	metrics_label(&t, "a", "b");
	metrics_histogram(&t, bucket, bounds, 3, 34500001);
	CU_ASSERT_NSTRING_EQUAL(buf_data(&b),
	    "# HELP registry_cache_x_seconds X.\n"
	    "# TYPE registry_cache_x_seconds histogram\n"
	    "registry_cache_x_seconds_bucket{a=\"b\",le=\"0.0025\"} 1\n"
	    "registry_cache_x_seconds_bucket{a=\"b\",le=\"10.0\"} 1\n"
	    "registry_cache_x_seconds_bucket{a=\"b\",le=\"+Inf\"} 4\n"
	    "registry_cache_x_seconds_sum{a=\"b\"} 34.500001\n"
	    "registry_cache_x_seconds_count{a=\"b\"} 4\n",
	    buf_len(&b));
	buf_free(&b);
}

static void
label_values_are_escaped(void)
{
	struct metrics_family f = {"x", "X.", NULL, METRICS_GAUGE};
	struct buf b = {0};
	struct metrics_text t = {.out = &b};

	metrics_begin(&t, &f);
	metrics_label(&t, "a", "q\" b\\ n\n c\x01 u\xc3");
	metrics_value(&t, 1);
	buf_append(&b, "", 1);
	CU_ASSERT_PTR_NOT_NULL(
	    strstr((char *)buf_data(&b), "registry_cache_x{a=\"q\\\" b\\\\ n\\n c? u?\"} 1\n"));
	buf_free(&b);
}

/* Names are unique and what both formats allow; help texts need no escapes; every counter of shm has a
 * row, or is told by a row with more labels. */
static void
the_table_is_sound(void)
{
	static const enum shm_counter otherwise[] = {COUNT_REQUESTS, COUNT_HITS, COUNT_PASSED,
	    COUNT_DENIED, COUNT_BYTES_SENT, COUNT_BYTES_FETCHED};
	struct metric_sum *sum = calloc(1, sizeof(*sum));
	struct metrics_values v = {.sum = sum};
	const struct metrics_family *f;
	const char *labels;
	char *text, value[32];

	for (size_t i = 0; (f = metrics_describe(i, &labels)) != NULL; i++) {
		const struct metrics_family *g;

		for (size_t j = 0; j < i && (g = metrics_describe(j, &labels)) != NULL; j++)
			CU_ASSERT_STRING_NOT_EQUAL(f->name, g->name);
		CU_ASSERT_EQUAL(strspn(f->name, "abcdefghijklmnopqrstuvwxyz_"), strlen(f->name));
		CU_ASSERT_PTR_NULL(strpbrk(f->help, "\n\\\""));
		if (f->unit != NULL)
			CU_ASSERT_STRING_EQUAL(
			    f->name + strlen(f->name) - strlen(f->unit), f->unit);
	}
	for (enum shm_counter c = 0; c < COUNT_MAX; c++)
		v.counters[c] = 7700000000 + c;
	text = text_of(&v, METRICS_PROMETHEUS);
	for (enum shm_counter c = 0; c < COUNT_MAX; c++) {
		bool elsewhere = false;

		for (size_t i = 0; i < sizeof(otherwise) / sizeof(otherwise[0]); i++)
			elsewhere |= otherwise[i] == c;
		snprintf(value, sizeof(value), " %llu\n", 7700000000ULL + c);
		if (!elsewhere && strstr(text, value) == NULL) {
			fprintf(stderr, "counter \"%s\" has no row in src/metrics.c\n",
			    shm_counter_name(c));
			CU_FAIL("a counter without a row");
		}
	}
	free(text);
	free(sum);
}

/* --- what is counted -------------------------------------------------------------------------- */

static struct shm *
create(unsigned listeners)
{
	struct shm *s = shm_create(listeners, 4);

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	for (unsigned i = 0; i <= listeners; i++)
		shm_child_open(s, i);
	return s;
}

static void
children_are_added_up_and_outlived(void)
{
	struct shm *s = create(3);
	struct metric_sum *sum;
	unsigned up = shm_metric_upstream(s, "quay.io", true);
	const struct metric_gauges now = {.fills_queued = 2};

	for (unsigned child = 0; child < 4; child++) {
		struct metric_request r = {.upstream = up, .kind = METRIC_BLOB,
		    .outcome = METRIC_FOLLOW, .status = 200, .bytes = 10, .first_us = 700};

		shm_metric_request(s, child, &r);
		shm_metric_set_gauges(s, child, &now);
	}
	shm_child_closed(s, 1);
	sum = shm_metric_sum(s);
	CU_ASSERT_EQUAL(sum->counts.upstream[up].traffic[METRIC_BLOB][METRIC_FOLLOW].requests, 4);
	CU_ASSERT_EQUAL(sum->counts.upstream[up].traffic[METRIC_BLOB][METRIC_FOLLOW].bytes, 40);
	CU_ASSERT_EQUAL(sum->counts.classes[METRIC_2XX], 4);
	CU_ASSERT_EQUAL(sum->counts.first_byte[METRIC_FOLLOW].bucket[1], 4);
	CU_ASSERT_EQUAL(sum->counts.first_byte[METRIC_FOLLOW].sum_us, 2800);
	CU_ASSERT_EQUAL(sum->counts.now.fills_queued, 6);
	CU_ASSERT_STRING_EQUAL(sum->name[up], "quay.io");
	free(sum);
	shm_destroy(&s);
}

static void
an_observation_goes_where_its_bound_is(void)
{
	struct shm *s = create(1);
	struct metric_sum *sum;

	for (int i = 0; i < METRIC_BUCKETS - 1; i++) {
		shm_metric_check(s, 0, METRIC_OTHER, METRIC_ALLOWED, metric_bounds_us[i]);
		shm_metric_check(s, 0, METRIC_OTHER, METRIC_ALLOWED, metric_bounds_us[i] + 1);
	}
	shm_metric_check(s, 0, METRIC_OTHER, METRIC_FAILED, 0);
	sum = shm_metric_sum(s);
	CU_ASSERT_EQUAL(sum->counts.upstream[METRIC_OTHER].checks[METRIC_ALLOWED], 34);
	for (int i = 0; i < METRIC_BUCKETS - 1; i++)
		CU_ASSERT_EQUAL(sum->counts.upstream[METRIC_OTHER].check.bucket[i], 2);
	CU_ASSERT_EQUAL(
	    sum->counts.upstream[METRIC_OTHER].check.bucket[METRIC_BUCKETS - 1], 1);
	free(sum);
	shm_destroy(&s);
}

static void
chosen_names_leave_room_for_configured_ones(void)
{
	struct shm *s = create(1);
	char name[METRIC_NAME_SIZE + 1];
	unsigned others = 0;

	for (int i = 0; i < 10000; i++) {
		snprintf(name, sizeof(name), "host%d.example", i);
		others += shm_metric_upstream(s, name, false) == METRIC_OTHER;
	}
	CU_ASSERT_EQUAL(others, 10000 - (METRIC_CHOSEN - 2));
	CU_ASSERT_EQUAL(shm_metric_upstream(s, "host7.example", false), 9);
	CU_ASSERT_NOT_EQUAL(shm_metric_upstream(s, "quay.io", true), METRIC_OTHER);
	CU_ASSERT_NOT_EQUAL(shm_metric_upstream(s, "quay.io", false), METRIC_OTHER);
	CU_ASSERT_EQUAL(shm_metric_upstream(s, "", false), METRIC_NONE);
	memset(name, 'a', METRIC_NAME_SIZE);
	name[METRIC_NAME_SIZE] = '\0';
	CU_ASSERT_EQUAL(shm_metric_upstream(s, name, true), METRIC_OTHER);
	name[METRIC_NAME_SIZE - 1] = '\0';
	CU_ASSERT_NOT_EQUAL(shm_metric_upstream(s, name, true), METRIC_OTHER);
	shm_destroy(&s);
}

static void
a_registry_is_counted_under_its_name(void)
{
	struct shm *s = create(1);
	unsigned up = shm_metric_upstream(s, "corp", true);

	shm_metric_set_registry(s, 0, 3, up);
	CU_ASSERT_EQUAL(shm_metric_target(s, 0, 3, "registry.corp.example:5000"), up);
	CU_ASSERT_EQUAL(shm_metric_target(s, 0, 0, "corp"), up);
	CU_ASSERT_EQUAL(shm_metric_target(s, 0, 0, NULL), METRIC_NONE);
	CU_ASSERT_EQUAL(shm_metric_target(s, 0, 2, "corp"), METRIC_OTHER);
	CU_ASSERT_EQUAL(shm_metric_target(s, 0, 1u << 20, "corp"), METRIC_OTHER);
	shm_destroy(&s);
}

/* Eight processes give the same forty names numbers; each counts once for each. */
static void
processes_that_name_the_same_at_once_lose_nothing(void)
{
	enum { PROCESSES = 8, NAMES = 40 };
	struct shm *s = create(PROCESSES);
	struct metric_sum *sum;
	uint64_t counted = 0;
	unsigned seen = 0;

	for (unsigned child = 0; child < PROCESSES; child++)
		if (fork() == 0) {
			for (int i = 0; i < NAMES; i++) {
				char name[32];

				snprintf(name, sizeof(name), "host%d.example", i);
				shm_metric_fetched(
				    s, child, shm_metric_upstream(s, name, false), 1);
			}
			_exit(0);
		}
	while (wait(NULL) > 0)
		continue;
	sum = shm_metric_sum(s);
	for (unsigned i = 0; i < METRIC_UPSTREAMS; i++) {
		if (sum->name[i][0] == '\0')
			continue;
		counted += sum->counts.upstream[i].fetched;
		seen++;
		for (unsigned j = 0; j < i; j++)
			CU_ASSERT_STRING_NOT_EQUAL(sum->name[i], sum->name[j]);
	}
	CU_ASSERT_EQUAL(counted, PROCESSES * NAMES);
	CU_ASSERT_TRUE(seen <= 2 + NAMES);
	free(sum);
	shm_destroy(&s);
}

void
suite_metrics(void)
{
	CU_pSuite s = CU_add_suite("metrics", NULL, NULL);

	CU_ADD_TEST(s, a_counter_is_named_as_its_format_wants);
	CU_ADD_TEST(s, a_histogram_is_cumulative_and_in_seconds);
	CU_ADD_TEST(s, label_values_are_escaped);
	CU_ADD_TEST(s, the_table_is_sound);
	CU_ADD_TEST(s, children_are_added_up_and_outlived);
	CU_ADD_TEST(s, an_observation_goes_where_its_bound_is);
	CU_ADD_TEST(s, chosen_names_leave_room_for_configured_ones);
	CU_ADD_TEST(s, a_registry_is_counted_under_its_name);
	CU_ADD_TEST(s, processes_that_name_the_same_at_once_lose_nothing);
}
