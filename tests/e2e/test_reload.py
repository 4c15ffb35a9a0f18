"""Another configuration (HUP) and another program (USR2) under a running cache."""
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys

import pytest
from client import MIB, PATIENCE, sha256
from faults import Faults
from harness import BINARY, HERE, Download, alive, free_port, merged, noise, wait_until, yaml
from scrape import Metrics, on, wait_for
from script import Answer, Gate


class Load:
    """load.py against one target."""

    def __init__(self, cache, thing, count):
        order = {"address": cache.address, "target": thing.target, "count": count,
                 "sha256": sha256(thing.data)}
        self.process = subprocess.Popen([sys.executable, str(HERE / "load.py"), json.dumps(order)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "going\n"

    def end(self):
        out, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0
        return json.loads(out)


def count(cache, words):
    return cache.log().count(words)


def hup(cache, done="the configuration is changed"):
    """Sends HUP and waits until the cache has said what came of it."""
    before = count(cache, done)
    cache.process.send_signal(signal.SIGHUP)
    wait_until(lambda: count(cache, done) > before, f"the log says again: {done}", 20)


def upgrade(cache):
    before = count(cache, "the configuration is changed")
    cache.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: count(cache, "the configuration is changed") > before,
               "the new program's listeners serve", 20)


def change(cache, **server):
    cache.config["server"].update(server)
    cache.config_path.write_text(yaml(cache.config) + "\n")


def test_50_reloads_and_5_upgrades_under_load_fail_no_request(new_cache, origin):
    """With 16 keep-alive clients and 20 long transfers, which none of all these is without."""
    cache = new_cache(origin, server={"listeners": 2, "workers": 40, "drainTimeout": "120s", "upstreamTimeout": "120s"})
    small = origin.blob("team/app", noise(20000))
    cache.fetch(small)
    large = [origin.blob("team/app", noise(4 * MIB, n)) for n in range(20)]
    gates = [Gate(blob.size - 1) for blob in large]
    for blob, gate in zip(large, gates):
        blob.answer = Answer(rate=0.4e6, gate=gate)
    load = Load(cache, small, 16)
    downloads = [Download(cache, blob.target) for blob in large]
    for n in range(50):
        hup(cache)
        if n % 10 == 5:
            upgrade(cache)
    for gate in gates:
        gate.open()
    for blob, download in zip(large, downloads):
        answer = download.result()
        assert (answer.status, answer.complete) == (200, True), answer.problem
        assert answer.body == blob.data
        assert len(origin.fetches(blob)) == 1
    result = load.end()
    assert result["problems"] == []
    assert result["answers"] > 100
    assert count(cache, "becoming ") == 5
    cache.stop()


def test_a_bad_configuration_at_hup_changes_nothing(cache, origin):
    listeners, text = cache.listeners(), cache.config_path.read_text()
    cache.config_path.write_text(text + "nonsense: 1\nserver: 3\n")
    hup(cache, "the configuration is not changed")
    log = cache.log()
    assert "nonsense" in log and f"{cache.config_path}:" in log
    assert cache.listeners() == listeners and all(alive(p) for p in listeners.values())
    cache.fetch(origin.blob("team/app", noise(1000)))
    cache.config_path.write_text(text)
    hup(cache)
    assert not set(listeners.values()) & set(cache.listeners().values())


def test_another_data_path_needs_a_restart(cache, tmp_path):
    cache.config["dataPath"] = str(tmp_path / "elsewhere")
    cache.config_path.write_text(yaml(cache.config) + "\n")
    hup(cache, "the configuration is not changed")
    assert "dataPath cannot change" in cache.log()


@pytest.mark.parametrize("listeners", [1, 5])
def test_the_number_of_listeners_changes_and_no_connection_is_lost(cache, origin, listeners):
    blob = origin.blob("team/app", noise(10000))
    cache.fetch(blob)
    load = Load(cache, blob, 8)
    change(cache, listeners=listeners)
    hup(cache)
    wait_until(lambda: len([p for p in pathlib.Path("/proc").glob("[0-9]*/stat")
                            if parent(p) == cache.master]) == listeners + 1,
               "the old listeners are gone")
    for _ in range(30):
        cache.fetch(blob)
    assert load.end()["problems"] == []
    served = {a["listener"] for a in cache.access()}
    assert max(served) <= max(listeners - 1, 1)
    if listeners == 5:
        assert len(served) > 2


def parent(stat):
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def test_another_address_is_listened_on_after_hup(cache, origin):
    blob = origin.blob("team/app", noise(10000))
    old = cache.port
    cache.port = free_port()
    change(cache, address=f"127.0.0.1:{cache.port}")
    hup(cache)
    cache.fetch(blob)
    wait_until(lambda: refuses(old), "the old address is not listened on any more")


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionError:
        return True
    return False


def write(cache, **more):
    cache.config = merged(cache.config, more)
    cache.config_path.write_text(yaml(cache.config) + "\n")


@pytest.mark.parametrize("more, said", [
    ({"user": "no-such-user"}, "user no-such-user: there is no such user"),
    ({"user": "nobody", "group": "no-such-group"}, "group no-such-group: there is no such group"),
    ({"log": {"path": "/no/such/folder/log"}}, "log.path /no/such/folder/log: the folder /no/such/folder: No such file"),
    ({"log": {"path": "/tmp"}}, "log.path /tmp: it is a folder")], ids=["user", "group", "log folder", "log"])
def test_what_no_start_would_take_changes_nothing(cache, origin, more, said):
    """-t says so, too; and the program that USR2 starts would have ended, and all children with it."""
    listeners = cache.listeners()
    write(cache, **more)
    done = subprocess.run([BINARY, "-t", "-c", str(cache.config_path)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2 and said in done.stderr
    hup(cache, "the configuration is not changed")
    cache.process.send_signal(signal.SIGUSR2)
    cache.wait_log("the program is not changed")
    assert said in cache.log() and cache.listeners() == listeners
    cache.fetch(origin.blob("team/app", noise(1000)))


def test_another_log_is_written_by_all_after_hup(cache, origin, tmp_path):
    """Access lines, too, which listeners write, and again after it was moved away."""
    folder = tmp_path / "logs"
    folder.mkdir()
    folder.chmod(0o777)
    path = folder / "cache.log"
    write(cache, log={"path": str(path), "format": "json"})
    cache.process.send_signal(signal.SIGHUP)
    blob = origin.blob("team/app", noise(1000))

    def says(*words):
        """One line has them all."""
        lines = path.read_text().splitlines() if path.exists() else []
        return any(all(w in line for w in words) for line in lines)

    wait_until(lambda: says("the configuration is changed"), "the new log tells of the change", 20)
    for k in (0, 1):
        with cache.connect_to(k) as c:
            assert c.request("GET", blob.target).status == 200
    for k in (0, 1):
        wait_until(lambda k=k: says(f"listener {k}", "/v2/team/app/blobs"), "both listeners write there")
    assert all(json.loads(line) for line in path.read_text().splitlines())
    path.rename(folder / "cache.log.1")
    cache.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: cache.get(blob.target) and says("/v2/team/app/blobs"), "it is opened again", 20)


def test_a_program_that_is_become_stays_on_its_folder(cache, origin, tmp_path):
    """Its lock and its children are of that one."""
    write(cache, dataPath=str(tmp_path / "elsewhere"))
    cache.process.send_signal(signal.SIGUSR2)
    cache.wait_log("this is version ")
    cache.wait_log("the configuration is not changed")
    assert "dataPath cannot change from " in cache.log()
    cache.fetch(origin.blob("team/app", noise(1000)))
    assert len(cache.objects()) == 1 and not (tmp_path / "elsewhere").exists()
    write(cache, dataPath=str(cache.data))
    hup(cache)


def test_an_address_that_is_taken_changes_nothing(cache, origin, new_cache):
    other = new_cache(origin)
    change(cache, address=f"127.0.0.1:{other.port}")
    hup(cache, "the configuration is not changed")
    cache.fetch(origin.blob("team/app", noise(1000)))


def test_a_change_that_fails_closes_no_socket_that_was_there(new_cache, origin):
    """Of three listeners' sockets one listener serves all, with what waits in their queues."""
    cache = new_cache(origin, server={"listeners": 3})

    def sockets():
        found = (line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:])
        ours = {f"socket:[{f[9]}]" for f in found if f[3] == "0A" and f[1].endswith(f":{cache.port:04X}")}
        folder = pathlib.Path(f"/proc/{cache.master}/fd")
        return sum(os.readlink(p) in ours for p in folder.iterdir())

    change(cache, listeners=1)
    hup(cache)
    assert sockets() == 3
    address = cache.config["server"]["address"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        change(cache, listeners=5, address=[address, f"127.0.0.1:{taken.getsockname()[1]}"])
        hup(cache, "the configuration is not changed")
    assert sockets() == 3
    change(cache, listeners=2, address=address)
    hup(cache)
    cache.fetch(origin.blob("team/app", noise(1000)))


def test_another_upstream_is_asked_after_hup(cache, new_origin):
    other = new_origin()
    blob = other.blob("team/app", noise(1000))
    assert cache.get(blob.target).status == 404
    change(cache, defaultBackend={"host": other.host, "scheme": other.scheme})
    hup(cache)
    cache.fetch(blob)


def test_fills_in_flight_are_followed_over_a_reload(cache, origin):
    blob = origin.blob("team/app", noise(4 * MIB))
    blob.answer = Answer(rate=2e6)
    first = Download(cache, blob.target)
    wait_until(lambda: origin.fetches(blob), "the fill runs")
    hup(cache)
    second = Download(cache, blob.target)
    assert first.result().body == blob.data and second.result().body == blob.data
    assert len(origin.fetches(blob)) == 1


def test_a_transfer_is_killed_when_it_drains_for_too_long(new_cache, origin):
    cache = new_cache(origin, server={"drainTimeout": "300ms"})
    blob = origin.blob("team/app", noise(4 * MIB))
    blob.answer = Answer(rate=0.2e6)
    download = Download(cache, blob.target)
    wait_until(lambda: origin.fetches(blob), "the fill runs")
    hup(cache)
    cache.wait_log("still had transfers after server.drainTimeout")
    download.join(PATIENCE)
    assert not download.intact(blob.data)


def test_a_program_that_refuses_the_configuration_is_not_become(tmp_path, new_cache, origin):
    """As after an upgrade to a version that knows an option no more."""
    program = tmp_path / "registry-cache"
    shutil.copy(BINARY, program)
    cache = new_cache(origin, start=False)
    cache.binary = str(program)
    cache.start()
    program.unlink()
    program.write_text("#!/bin/sh\necho 'it does not know this option' >&2\nexit 2\n")
    program.chmod(0o755)
    listeners = cache.listeners()
    cache.process.send_signal(signal.SIGUSR2)
    cache.wait_log("the program is not changed")
    assert cache.listeners() == listeners
    cache.fetch(origin.blob("team/app", noise(1000)))


def test_a_program_that_is_gone_is_not_become(tmp_path, new_cache, origin):
    program = tmp_path / "registry-cache"
    shutil.copy(BINARY, program)
    cache = new_cache(origin, start=False)
    cache.binary = str(program)
    cache.start()
    program.unlink()
    cache.process.send_signal(signal.SIGUSR2)
    cache.wait_log("the program is not changed")
    cache.fetch(origin.blob("team/app", noise(1000)))


def test_the_lock_and_the_master_s_pid_outlive_an_upgrade(cache, origin):
    pid = cache.master
    upgrade(cache)
    done = subprocess.run([BINARY, "-c", str(cache.config_path)], capture_output=True, text=True,
                          timeout=PATIENCE)
    assert done.returncode == 1 and f"in use by pid {pid}" in done.stderr + cache.log()
    old = set(cache.children())
    for child in old:
        os.kill(child, signal.SIGKILL)
    wait_until(lambda: not old & set(cache.children()), "the killed children are replaced")
    cache.fetch(origin.blob("team/app", noise(1000)))
    assert cache.process.poll() is None


def test_an_upgrade_that_is_asked_for_during_a_reload_follows_it(cache, origin):
    done, became = "the configuration is changed", "on the sockets of the program before"
    for n in range(1, 6):
        cache.process.send_signal(signal.SIGHUP)
        wait_until(lambda: count(cache, "changing to the configuration") >= 2 * n - 1, "it begins")
        cache.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: count(cache, became) == n and count(cache, done) == 2 * n,
                   "the reload, then the upgrade and its own reload are over", 20)
        cache.fetch(origin.blob("team/app", noise(1000, n)))


def spoil_layout(pid):
    """The shared memory says that it is of another layout; who has it open does not look any more."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        first = min(int(line.split("-")[0], 16) for line in maps if "memfd:registry-cache" in line)
        memory.seek(first)
        magic, version = struct.unpack("=II", memory.read(8))
        assert (magic, version) == (0x52436163, version)
        memory.seek(first + 4)
        memory.write(struct.pack("=I", version + 1))


def test_an_upgrade_to_a_program_with_another_layout_cuts_nobody(new_cache, origin):
    """The old children end first, for their memory is not the new ones'; who comes meanwhile waits or is still served."""
    cache = new_cache(origin, server={"drainTimeout": "60s"})
    old, slow = origin.blob("team/app", noise(MIB, 1)), origin.blob("team/app", noise(4 * MIB, 2))
    cache.fetch(old)
    slow.answer = Answer(gate=Gate(MIB))
    clients = [Download(cache, slow.target, connection=cache.connect_to(k)) for k in (0, 1)]
    slow.answer.gate.wait_reached()
    before = cache.children()
    spoil_layout(cache.master)
    cache.process.send_signal(signal.SIGUSR2)
    cache.wait_log("has other shared memory .*: its children end first", 20)
    late = [Download(cache, old.target) for _ in range(4)]
    slow.answer.gate.open()
    for c in clients:
        assert c.result().body == slow.data and c.answer.complete
    for c in late:
        assert c.result().body == old.data
    wait_until(lambda: cache.log().count("master: gc is pid ") == 2, "new children begin")
    ended = cache.log().rpartition("master: gc is pid ")[0]
    assert [p for p in before if f", pid {p}, has ended" not in ended] == []
    assert len(origin.fetches(old)) == len(origin.fetches(slow)) == 1
    cache.fetch(slow)
    assert len(origin.fetches(slow)) == 1
    hup(cache)
    cache.fetch(slow)


def test_listeners_that_die_before_they_are_ready_leave_the_old_ones_serving(new_cache, origin, small_disk,
                                                                            tmp_path):
    """What HUP asked for is given up, said, and counted. The disk is slow, so that there is time to kill them."""
    disk = small_disk("64m")
    faults = Faults(tmp_path, disk)
    cache = new_cache(origin, dataPath=str(disk), environment=faults.environment, **on())
    blob = origin.blob("team/app", noise(1000))
    cache.fetch(blob)
    serving = set(cache.listeners().values())
    killed = set(serving)

    def given_up():
        cache.kill_new(r"listener \d+", killed)
        return "listeners with the new configuration do not become ready: it is not changed" in cache.log()

    faults.delay(0.1)
    cache.process.send_signal(signal.SIGHUP)
    wait_until(given_up, "it is given up", 30)
    faults.delay(0)
    assert all(alive(p) for p in serving)
    cache.fetch(blob)
    wait_for(cache, "reloads_total", 1, result="failed")
    assert Metrics(cache)("child_deaths_total", role="listener") >= 3
    hup(cache)
    cache.fetch(blob)
    assert len(origin.fetches(blob)) == 1
