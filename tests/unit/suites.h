/* Every suite of the unit tests: one function a file, which adds its suites to CUnit's registry. main.c runs them. */
#ifndef SUITES_H
#define SUITES_H

void suite_challenge(void);
void suite_check(void);
void suite_conf(void);
void suite_confine(void);
void suite_conf_broken(void);
void suite_conf_mistakes(void);
void suite_disk_model(void);
void suite_http(void);
void suite_http_body(void);
void suite_http_date(void);
void suite_index(void);
void suite_index_disk(void);
void suite_index_race(void);
void suite_index_probe(void);
void suite_index_prune(void);
void suite_index_scan(void);
void suite_log(void);
void suite_login(void);
void suite_l0(void);
void suite_lease(void);
void suite_lease_race(void);
void suite_master(void);
void suite_metrics(void);
void suite_route(void);
void suite_route_carriers(void);
void suite_shm(void);
void suite_shm_disk(void);
void suite_shm_race(void);
void suite_shm_tables(void);
void suite_shm_rate(void);
void suite_shm_tickets(void);
void suite_proxy_protocol(void);
void suite_store(void);
void suite_store_quarantine(void);
void suite_store_state(void);
void suite_store_walk(void);
void suite_tls(void);
void suite_token(void);
void suite_tokens(void);
void suite_upstream(void);

#endif
