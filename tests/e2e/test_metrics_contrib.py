"""The alerts and the dashboard that come with the cache speak of metrics that there are, and the alerts
fire when they should."""
import json
import pathlib
import re
import shutil
import subprocess

import pytest
from scrape import PREFIX, ask, on

yaml = pytest.importorskip("yaml")

CONTRIB = pathlib.Path(__file__).resolve().parents[2] / "contrib"
RULES, DASHBOARD = CONTRIB / "prometheus-rules.yaml", CONTRIB / "grafana-dashboard.json"
RISE = "0x20 1x10"  # something happened ten minutes ago

# What each alert needs to fire in half an hour, for an instance (the values of a minute each), …
FIRING = {
    "RegistryCacheDown": {'up{job="registry-cache",%s}': "0x30"},
    "RegistryCacheNotReady": {"ready{%s}": "0x30"},
    "RegistryCacheErrors": {'responses_total{%s,class="2xx"}': "0+90x30",
                            'responses_total{%s,class="5xx"}': "0+10x30"},
    "RegistryCacheUpstreamDown": {'upstream_answers_total{%s,upstream="q",answer="none"}': "0+9x30",
                                  'upstream_answers_total{%s,upstream="q",answer="ok"}': "0+1x30"},
    "RegistryCacheUpstreamLimits": {'upstream_answers_total{%s,upstream="q",answer="limited"}': RISE},
    "RegistryCacheQuotaLow": {'upstream_quota_remaining{%s,upstream="q"}': "9x30",
                              'upstream_quota_limit{%s,upstream="q"}': "100x30"},
    "RegistryCacheDigestFailures": {"digest_failures_total{%s}": RISE},
    "RegistryCacheCorruptObjects": {"corrupt_total{%s}": RISE},
    "RegistryCacheStoreErrors": {"index_errors_total{%s}": RISE},
    "RegistryCacheTooSmall": {'disk_bytes{%s,use="blob"}': "95x180", "disk_limit_bytes{%s}": "100x180",
                              "evicted_unused_seconds{%s}": "3600x180",
                              'evictions_total{%s,reason="limit"}': "0+1x180"},
    "RegistryCacheNoRoom": {"no_room_total{%s}": RISE},
    "RegistryCacheChildDeaths": {'child_deaths_total{%s,role="gc",reason="signal"}': RISE},
    "RegistryCacheFillQueue": {'queue_length{%s,queue="workers"}': "3x30"},
    "RegistryCacheQueueTimeouts": {'queue_timeouts_total{%s,queue="workers"}': "0x28 1x2"},
    "RegistryCacheReloadFailed": {'reloads_total{%s,result="failed"}': RISE},
}
# … and what is not enough.
QUIET = {
    "RegistryCacheDown": {'up{job="registry-cache",%s}': "1x30"},
    "RegistryCacheNotReady": {"ready{%s}": "1x30"},
    "RegistryCacheErrors": {'responses_total{%s,class="2xx"}': "0+99x30",
                            'responses_total{%s,class="5xx"}': "0+1x30"},
    "RegistryCacheUpstreamDown": {'upstream_answers_total{%s,upstream="q",answer="refused"}': "0+9x30",
                                  'upstream_answers_total{%s,upstream="q",answer="none"}': "0+1x30"},
    "RegistryCacheDigestFailures": {"digest_failures_total{%s}": "7x30"},
    "RegistryCacheTooSmall": {'disk_bytes{%s,use="blob"}': "95x180", "disk_limit_bytes{%s}": "100x180",
                              "evicted_unused_seconds{%s}": "864000x180",
                              'evictions_total{%s,reason="limit"}': "0+1x180"},
    "RegistryCacheFillQueue": {'queue_length{%s,queue="workers"}': " ".join(["3", "0"] * 15)},
}


def rules():
    return yaml.safe_load(RULES.read_text())["groups"][0]["rules"]


def names_in(text):
    return {re.sub("_(bucket|sum|count)$", "", n) for n in re.findall(PREFIX + r"\w+", text)}


@pytest.fixture
def known(new_cache, origin):
    """Names as the text format has them."""
    cache = new_cache(origin, **on())
    return set(re.findall(r"^# TYPE (\S+)", ask(cache, "/metrics").body.decode(), re.M))


@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=["rules", "dashboard"])
def test_all_metrics_that_are_spoken_of_exist(known, path):
    named = names_in(path.read_text())
    assert len(named) > 15 and named - known == set()


def test_the_dashboard_is_one():
    board = json.loads(DASHBOARD.read_text())
    panels = [p for p in board["panels"] if p["type"] != "row"]
    assert len({p["id"] for p in board["panels"]}) == len(board["panels"]) > 20
    for p in panels:
        assert p["title"] and p["description"] and p["targets"], p
        assert p["gridPos"]["x"] + p["gridPos"]["w"] <= 24
        for t in p["targets"]:
            assert t["expr"].count("(") == t["expr"].count(")") and PREFIX in t["expr"]


def promtool(*args):
    if not shutil.which("promtool"):
        pytest.skip("there is no promtool (install prometheus)")
    done = subprocess.run(["promtool", *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_rules():
    promtool("check", "rules", str(RULES))


def test_promtool_takes_every_expression_of_the_dashboard(tmp_path):
    """As rules of their own, with Grafana's variables filled in."""
    board = json.loads(DASHBOARD.read_text())
    made = [{"record": f"panel:{p['id']}:{t['refId']}",
             "expr": t["expr"].replace("$__rate_interval", "5m").replace("$job", ".*")
             .replace("$instance", ".*")}
            for p in board["panels"] if p["type"] != "row" for t in p["targets"]]
    path = tmp_path / "dashboard.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": made}]}))
    promtool("check", "rules", str(path))


def series(of, instance):
    return [{"series": (s if s.startswith("up{") else PREFIX + s) % f'instance="{instance}"', "values": v}
            for s, v in of.items()]


def test_each_alert_fires_when_it_should_and_not_before(tmp_path):
    assert {r["alert"] for r in rules()} == set(FIRING)
    bare = [{k: v for k, v in r.items() if k != "annotations"} for r in rules()]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": bare}]}))
    tests = []
    for r in rules():
        name, more = r["alert"], {}
        text = next(iter(FIRING[name]))
        for label in ("job", "upstream", "queue", "role", "reason", "result"):
            found = re.search(rf'{label}="([^"]*)"', text)
            dropped = name == "RegistryCacheTooSmall"
            if found and not dropped:
                more[label] = found[1]
        tests.append({
            "interval": "1m",
            "input_series": series(FIRING[name], "fires") + series(QUIET.get(name, {}), "quiet"),
            "alert_rule_test": [{
                "eval_time": "180m" if name == "RegistryCacheTooSmall" else "30m", "alertname": name,
                "exp_alerts": [{"exp_labels": {**r["labels"], "instance": "fires", **more}}]}]})
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m",
                                    "tests": tests}))
    promtool("test", "rules", str(path))
