"""What the log says, in which form, and where it goes."""
import json
import os
import socket

import pytest
from harness import noise, wait_until


def test_lines_are_json_when_that_is_configured(new_cache, origin):
    cache = new_cache(origin, log={"format": "json"}, start=False)
    cache.launch()
    wait_until(lambda: '"message":"ready: ' in cache.log(), "it is ready", 20)
    blob = origin.blob("team/app", noise(1000))
    cache.get(blob.target, [("X-Request-Id", "ci-job/17")])
    wait_until(lambda: '"level":"access"' in cache.log(), "the access line is written")
    lines = [json.loads(line) for line in cache.log().splitlines()]
    assert all({"time", "level", "role"} <= line.keys() for line in lines)
    access = next(line for line in lines if line["level"] == "access")
    assert access["repository"] == "team/app" and access["outcome"] == "fill"
    assert (access["status"], access["bytes"]) == (200, 1000)
    assert access["digest"] == blob.digest[:19] and access["request"] == "ci-job/17"
    assert access["first_ms"] <= access["ms"]


def test_the_request_id_is_the_client_s_or_our_own(cache, origin):
    blob = origin.blob("team/app", noise(1000))
    assert cache.get(blob.target, [("X-Request-Id", "a1-b2")]).header("X-Request-Id") == "a1-b2"
    own = {cache.get(blob.target).header("X-Request-Id") for _ in range(3)}
    assert len(own) == 3 and None not in own
    strange = cache.get(blob.target, [("X-Request-Id", 'a b\\"outcome=hit')]).header("X-Request-Id")
    assert " " not in strange
    for value in ("a1-b2", strange):
        cache.wait_access(request=value)


def test_the_check_s_time_is_in_the_line(cache, origin):
    blob = origin.blob("team/app", noise(1000))
    cache.fetch(blob)
    assert "check_ms" not in cache.wait_access(outcome="fill"), "a leader needs no check"
    cache.fetch(blob)
    assert "check_ms" in cache.wait_access(outcome="hit")


def test_a_message_that_repeats_is_counted_instead(cache):
    for _ in range(300):
        assert cache.get("/v2/UPPER/manifests/x").status == 400
    cache.wait_log(r"\d+ more like it in that second")
    assert cache.log().count("400 NAME_INVALID") < 300


def test_access_lines_and_messages_go_to_syslog(new_cache, origin):
    """The C library's syslog() sends to /dev/log: taken by this test where nobody has it."""
    if os.path.exists("/dev/log") or os.geteuid() != 0:
        pytest.skip("somebody listens on /dev/log, or we may not")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind("/dev/log")
        os.chmod("/dev/log", 0o666)
        try:
            log.settimeout(20)
            cache = new_cache(origin, log={"syslog": "local3"}, start=False)
            cache.launch()
            read_until(log, "ready: ")
            cache.get(origin.blob("team/app", noise(1000)).target)
            line = read_until(log, "outcome=fill")
            assert line.startswith(f"<{19 * 8 + 6}>") and "registry-cache[" in line
            cache.stop()
        finally:
            os.unlink("/dev/log")


def read_until(log, word):
    while True:
        line = log.recv(8192).decode()
        if word in line:
            return line
