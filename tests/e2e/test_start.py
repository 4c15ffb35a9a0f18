"""Starting, stopping and staying up: exit statuses, flags, signals, dead and stopped children."""
import os
import signal
import socket
import subprocess

import pytest
from client import MIB, PATIENCE
from harness import BINARY, Download, alive, noise, wait_until
from script import Answer, Gate


def run(*args):
    return subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=PATIENCE)


def refused(cache):
    """Does nobody listen any more?"""
    try:
        socket.create_connection(cache.address, 1).close()
    except ConnectionRefusedError:
        return True
    except ConnectionError:  # the socket closes just now
        return False
    return False


def write_config(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return str(path)


GOOD = ("dataPath: {}\nserver:\n  address: 127.0.0.1:7000\n"
        "  defaultBackend:\n    host: registry.example\n")


def test_config_test_accepts_three_settings(tmp_path):
    done = run("-t", "-c", write_config(tmp_path, GOOD.format(tmp_path)))
    assert done.returncode == 0, done.stderr


def test_config_test_names_every_mistake_and_its_place(tmp_path):
    path = write_config(tmp_path, GOOD.format(tmp_path) + "  wrokers: 3\n  timeout: soon\n")
    done = run("-t", "-c", path)
    assert done.returncode == 2
    assert f"{path}:6:3:" in done.stderr and "wrokers" in done.stderr
    assert f"{path}:7:" in done.stderr and "timeout" in done.stderr


@pytest.mark.parametrize("text", ["", "dataPath: [\n", "dataPath: /x\ndataPath: /y\n",
                                  "server:\n  workers: -1\n", "server: 3\n", "\0"])
def test_config_test_refuses(tmp_path, text):
    done = run("-t", "-c", write_config(tmp_path, text))
    assert done.returncode == 2
    assert "config.yaml:" in done.stderr


def test_config_test_of_a_missing_file_fails(tmp_path):
    done = run("-t", "-c", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "nowhere" in done.stderr


def test_a_bad_upstream_regex_is_found_by_the_config_test(tmp_path):
    path = write_config(tmp_path, GOOD.format(tmp_path)
                        + '  upstreamRules:\n  - regex: "^(.+"\n'
                        + "    host: x.example\n    scheme: https\n")
    done = run("-t", "-c", path)
    assert done.returncode == 2
    assert f"{path}:7:" in done.stderr


def test_a_bad_config_does_not_start(tmp_path):
    done = run("-c", write_config(tmp_path, "nonsense: 1\n"))
    assert done.returncode == 2
    assert "nonsense" in done.stderr


def test_version_and_help():
    version, usage = run("-V"), run("-h")
    assert version.returncode == 0 and any(c.isdigit() for c in version.stdout)
    assert usage.returncode == 0 and "-c" in usage.stdout


def test_an_unknown_flag_is_an_error_with_usage():
    done = run("-~")
    assert done.returncode != 0 and "-c" in done.stderr


def test_an_address_in_use_is_said_and_nothing_stays(new_cache, origin):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        c = new_cache(origin, start=False)
        c.launch(port)
        assert c.wait() == 1
        assert str(port) in c.log() and "in use" in c.log()


def test_a_second_cache_on_the_same_folder_refuses_and_names_the_first(cache, new_cache, origin):
    second = new_cache(origin, start=False, dataPath=str(cache.data))
    second.launch()
    assert second.wait() == 1
    assert str(cache.master) in second.log()
    assert cache.get("/v2/").status == 200


def test_a_killed_listener_is_replaced_and_its_socket_serves_on(cache):
    for number in (0, 1):
        pid = cache.listeners()[number]
        os.kill(pid, signal.SIGKILL)
        cache.wait_replaced(pid)
        with cache.connect_to(number) as c:
            assert c.request("GET", "/v2/").status == 200


def test_no_connection_is_refused_while_listeners_die(new_cache, origin):
    cache = new_cache(origin, server={"listeners": 1})
    blob = origin.blob("app", noise(1000))
    cache.fetch(blob)
    pid = cache.listeners()[0]
    os.kill(pid, signal.SIGKILL)
    cache.fetch(blob)  # queued in the socket that the master keeps
    cache.wait_replaced(pid)


def test_a_killed_gc_is_replaced(cache):
    pid = cache.gc()
    os.kill(pid, signal.SIGKILL)
    cache.wait_replaced(pid)
    assert alive(cache.gc())


def test_a_stopped_listener_is_replaced_by_the_watchdog(new_cache, origin):
    cache = new_cache(origin, server={"heartbeatTimeout": "3s"})
    pid = cache.listeners()[0]
    os.kill(pid, signal.SIGSTOP)
    cache.wait_replaced(pid)
    with cache.connect_to(0) as c:
        assert c.request("GET", "/v2/").status == 200


def test_term_ends_an_idle_cache_with_status_0(cache):
    children = cache.children()
    with cache.connect() as idle:
        assert idle.request("GET", "/v2/").status == 200
        cache.stop()
    assert not any(alive(p) for p in children)
    assert refused(cache)


def test_term_lets_a_running_transfer_finish(new_cache, origin):
    cache = new_cache(origin, server={"drainTimeout": "60s"})
    blob = origin.blob("app", noise(16 * MIB))
    cache.fetch(blob)
    with cache.connect(receive_buffer=16384) as c:
        c.ask("GET", blob.target)
        answer = c.receive_head()
        cache.terminate()
        wait_until(lambda: refused(cache), "the cache takes no connection any more")
        assert cache.process.poll() is None
        c.receive_body(answer)
    assert answer.complete and answer.body == blob.data
    assert cache.wait() == 0


def test_term_lets_a_running_fill_and_its_clients_finish(new_cache, origin):
    cache = new_cache(origin, server={"drainTimeout": "60s"})
    blob = origin.blob("app", noise(2 * MIB))
    blob.answer = Answer(gate=Gate(MIB))
    client = Download(cache, blob.target)
    blob.answer.gate.wait_reached()
    cache.terminate()
    wait_until(lambda: refused(cache), "the cache takes no connection any more")
    blob.answer.gate.open()
    assert client.result().body == blob.data
    assert cache.wait() == 0
    cache.check_objects()
    assert cache.parts() == []


def test_a_transfer_that_does_not_end_is_cut_after_the_drain_timeout(new_cache, origin):
    cache = new_cache(origin, server={"drainTimeout": "1s"})
    blob = origin.blob("app", noise(2 * MIB))
    blob.answer = Answer(at=MIB, then="hang")
    with cache.connect() as c:
        c.ask("GET", blob.target)
        c.receive_head()
        cache.terminate()
        assert cache.wait(10) == 0


def test_a_second_term_ends_it_at_once(new_cache, origin):
    cache = new_cache(origin, server={"drainTimeout": "600s"})
    blob = origin.blob("app", noise(2 * MIB))
    blob.answer = Answer(at=MIB, then="hang")
    with cache.connect() as c:
        c.ask("GET", blob.target)
        c.receive_head()
        children = cache.children()
        cache.terminate()
        wait_until(lambda: refused(cache), "the cache takes no connection any more")
        assert cache.process.poll() is None
        cache.terminate()
        cache.wait(5)
    wait_until(lambda: not any(alive(p) for p in children), "the children are gone")


def test_int_is_as_term(cache):
    cache.process.send_signal(signal.SIGINT)
    assert cache.wait() == 0


def test_a_killed_master_takes_its_children_along_and_can_start_again(new_cache, origin):
    cache = new_cache(origin)
    blob = origin.blob("app", noise(MIB))
    cache.fetch(blob)
    port = cache.port
    cache.kill()
    cache.launch(port)
    wait_until(cache.ready, "the cache is ready again")
    cache.fetch(blob)
    assert len(origin.fetches(blob)) == 1


def test_objects_survive_a_restart(cache, origin):
    blobs = [origin.blob("app", noise(size, size)) for size in (0, 1, 70000, MIB)]
    for blob in blobs:
        cache.fetch(blob)
    cache.restart()
    for blob in blobs:
        cache.fetch(blob)
        assert len(origin.fetches(blob)) == 1, blob.size


def test_a_port_is_free_as_soon_as_the_cache_has_ended(cache):
    port = cache.port
    cache.stop()
    cache.launch(port)
    wait_until(cache.ready, "the cache is ready on the same port")


def test_kept_alive_clients_are_told_to_go_when_it_drains(cache):
    with cache.connect() as c:
        c.request("GET", "/v2/")
        cache.terminate()
        assert c.closed_by_peer()


def test_a_listener_that_cannot_start_is_not_started_in_a_storm(new_cache, origin, tmp_path):
    """What kills every child at once (here: a CA file that is none) must not make a fork bomb."""
    junk = tmp_path / "ca.crt"
    junk.write_text("no certificate\n")
    cache = new_cache(origin, start=False, server={"tls": {"caPath": str(junk)}})
    cache.launch()
    cache.wait_log("ca.crt")
    wait_until(lambda: cache.process.poll() is not None or cache.log().count(" is pid ") >= 3,
               "children were started")
    begun = cache.log().count(" is pid ")
    assert begun <= 12, cache.log()[-2000:]
