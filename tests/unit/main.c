/* Runs the unit tests. Without arguments all; else the suites named. -v: a line a test; -l: list the suites. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <CUnit/Basic.h>

#include "log.h"
#include "suites.h"

static void (*const add_suites[])(void) = {
	suite_challenge,
	suite_check,
	suite_conf,
	suite_confine,
	suite_conf_broken,
	suite_conf_mistakes,
	suite_disk_model,
	suite_http,
	suite_http_body,
	suite_http_date,
	suite_index,
	suite_index_disk,
	suite_index_race,
	suite_index_probe,
	suite_index_prune,
	suite_index_scan,
	suite_l0,
	suite_lease,
	suite_lease_race,
	suite_log,
	suite_login,
	suite_master,
	suite_metrics,
	suite_route,
	suite_route_carriers,
	suite_shm,
	suite_shm_disk,
	suite_shm_race,
	suite_shm_tables,
	suite_shm_rate,
	suite_shm_tickets,
	suite_proxy_protocol,
	suite_store,
	suite_store_quarantine,
	suite_store_state,
	suite_store_walk,
	suite_tls,
	suite_token,
	suite_tokens,
	suite_upstream,
};

static void
list_suites(void)
{
	for (CU_pSuite s = CU_get_registry()->pSuite; s != NULL; s = s->pNext)
		printf("%s: %u tests\n", s->pName, s->uiNumberOfTests);
}

/* What ran was something, and all of it was right. CUnit counts one run only. */
static bool
last_run_passed(void)
{
	return CU_get_number_of_tests_run() > 0 && CU_get_number_of_failures() == 0;
}

/* False: it failed, or there is no such suite. */
static bool
run_suite(const char *name)
{
	CU_pSuite s = CU_get_suite(name);

	if (s == NULL) {
		fprintf(stderr, "unit: there is no suite \"%s\" (-l lists them)\n", name);
		return false;
	}
	CU_basic_run_suite(s);
	return last_run_passed();
}

/* Runs what the arguments say; returns the exit status. */
static int
run(int argc, char **argv)
{
	bool passed = true, named = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "-l") == 0) {
			list_suites();
			return 0;
		}
		if (strcmp(argv[i], "-v") == 0) {
			CU_basic_set_mode(CU_BRM_VERBOSE);
			continue;
		}
		named = true;
		passed = run_suite(argv[i]) && passed;
	}
	if (!named) {
		CU_basic_run_tests();
		passed = last_run_passed();
	}
	return passed ? 0 : 1;
}

int
main(int argc, char **argv)
{
	int status;

	CU_set_error_action(CUEA_ABORT); /* a test that could not be added is no test that passed */
	CU_initialize_registry();
	log_set_role("unit");
	for (size_t i = 0; i < sizeof(add_suites) / sizeof(*add_suites); i++)
		add_suites[i]();
	status = run(argc, argv);
	CU_cleanup_registry();
	return status;
}
