"""Several addresses: IPv4, IPv6 and Unix sockets at once, over reloads, upgrades, crashes and stops."""
import json
import os
import pathlib
import signal
import socket
import stat
import subprocess

import pytest
from client import Connection
from harness import BINARY, UNPRIVILEGED, alive, free_port, noise, wait_until, yaml
from test_reload import hup, upgrade


@pytest.fixture
def new_cache_on(new_cache, origin):
    """new_cache_on("[::1]:%d", …): a cache on these besides its usual address; %d is a free port."""
    def make(*addresses, **config):
        cache = new_cache(origin, start=False, **config)
        cache.ports = [free_port() for _ in addresses]
        cache.more_addresses = [a % p if "%" in a else a for a, p in zip(addresses, cache.ports)]
        return cache.start()
    return make


def set_addresses(cache, *addresses):
    cache.config["server"]["address"] = list(addresses)
    cache.config_path.write_text(yaml(cache.config) + "\n")


def serves(address, thing):
    with Connection(address) as c:
        answer = c.request("GET", thing.target)
        return answer.status == 200 and answer.body == thing.data


def test_each_address_serves_and_says_who_came(new_cache_on, origin, short_folder):
    path = f"{short_folder}/socket"
    cache = new_cache_on("[::1]:%d", "127.7.7.2:%d", f"unix:{path}")
    blob = origin.blob("team/app", noise(50_000))
    cache.wait_log(rf"ready: 2 listeners on 127.0.0.1:{cache.port}, \[::1\]:{cache.ports[0]}, "
                   rf"127.7.7.2:{cache.ports[1]}, unix:{path}\n")
    for address in (cache.address, ("::1", cache.ports[0]), ("127.7.7.2", cache.ports[1]), path):
        assert serves(address, blob), address
    wait_until(lambda: len(cache.access()) == 4, "all are logged")
    assert sorted(a["client"] for a in cache.access()) == ["127.0.0.1", "127.0.0.1", "::1", "unix"]
    assert len(origin.fetches(blob)) == 1


def test_a_dual_stack_address_names_ipv4_clients_as_such(new_cache_on, origin):
    cache = new_cache_on("[::]:%d")
    blob = origin.blob("team/app", noise(1000))
    for host in ("127.0.0.1", "::1"):
        assert serves((host, cache.ports[0]), blob)
    wait_until(lambda: len(cache.access()) == 2, "both are logged")
    assert sorted(a["client"] for a in cache.access()) == ["127.0.0.1", "::1"]


def test_ipv4_and_ipv6_of_one_port_may_both_be_listed(new_cache, origin):
    port = free_port()
    cache = new_cache(origin, start=False)
    cache.more_addresses = [f"[::]:{port}", f"0.0.0.0:{port}"]
    cache.start()
    blob = origin.blob("team/app", noise(1000))
    assert serves(("127.0.0.1", port), blob) and serves(("::1", port), blob)


def test_all_listeners_serve_a_unix_socket(new_cache_on, origin, short_folder):
    path = f"{short_folder}/socket"
    cache = new_cache_on(f"unix:{path}", server={"listeners": 3})
    blob = origin.blob("team/app", noise(1000))

    def all_have_answered():
        held = [Connection(path) for _ in range(12)]
        for c in held:
            assert c.request("GET", blob.target).body == blob.data
        for c in held:
            c.close()
        return {a["listener"] for a in cache.access()} == {0, 1, 2}
    wait_until(all_have_answered, "all have answered", 20)


@pytest.mark.parametrize("mode", ["0660", "0600", "0666"])
def test_a_unix_socket_has_its_mode(new_cache_on, short_folder, mode):
    path = f"{short_folder}/socket"
    cache = new_cache_on(f"unix:{path}", server={"socketMode": mode})
    assert stat.S_IMODE(os.stat(path).st_mode) == int(mode, 8)
    cache.config["server"]["socketMode"] = "0640"
    cache.config_path.write_text(yaml(cache.config) + "\n")
    hup(cache)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640


def test_a_change_that_fails_leaves_a_unix_socket_as_it_was(new_cache_on, short_folder):
    path = f"{short_folder}/socket"
    cache = new_cache_on(f"unix:{path}", server={"socketMode": "0660"})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cache.config["server"]["socketMode"] = "0600"
        set_addresses(cache, *cache.config["server"]["address"], f"127.0.0.1:{taken.getsockname()[1]}")
        hup(cache, "the configuration is not changed")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660


def test_a_unix_socket_belongs_to_the_user_of_the_cache(new_cache_on, short_folder):
    if os.geteuid() != 0 or UNPRIVILEGED:
        pytest.skip("needs root")
    os.chmod(short_folder, 0o755)
    new_cache_on(f"unix:{short_folder}/socket", user="nobody", sandbox=False)
    assert os.stat(f"{short_folder}/socket").st_uid == 65534


def test_a_unix_socket_is_kept_over_upgrades_and_removed_at_the_end(new_cache_on, origin, short_folder):
    path = f"{short_folder}/socket"
    cache = new_cache_on(f"unix:{path}")
    blob = origin.blob("team/app", noise(1000))
    assert serves(path, blob)
    inode = os.stat(path).st_ino
    upgrade(cache)
    assert os.stat(path).st_ino == inode and serves(path, blob)
    hup(cache)
    assert os.stat(path).st_ino == inode and serves(path, blob)
    cache.stop()
    assert not os.path.exists(path)


def test_a_socket_that_a_dead_cache_left_is_replaced(new_cache_on, origin, short_folder):
    path = f"{short_folder}/socket"
    cache = new_cache_on(f"unix:{path}")
    cache.kill()
    assert os.path.exists(path)
    cache.start()
    assert serves(path, origin.blob("team/app", noise(1000)))


def fails_to_start(cache, *addresses):
    """What it says when it does not start on these."""
    cache.config["server"]["address"] = list(addresses)
    cache.config_path.write_text(yaml(cache.config) + "\n")
    done = subprocess.run([BINARY, "-c", cache.config_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done
    return done.stderr


def test_what_is_in_the_way_of_a_unix_socket_is_left_alone(new_cache, origin, short_folder):
    cache, path = new_cache(origin, start=False), f"{short_folder}/socket"
    pathlib.Path(path).write_text("precious")
    assert "no socket" in fails_to_start(cache, "127.0.0.1:0", f"unix:{path}")
    assert pathlib.Path(path).read_text() == "precious"
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        assert "in use" in fails_to_start(cache, f"unix:{path}")
        with socket.socket(socket.AF_UNIX) as c:
            c.connect(path)


def test_a_start_that_fails_leaves_no_socket_behind(new_cache, origin, short_folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = fails_to_start(new_cache(origin, start=False), f"unix:{short_folder}/socket",
                              f"127.0.0.1:{taken.getsockname()[1]}")
    assert "in use" in said and os.listdir(short_folder) == []


def test_addresses_come_and_go_with_hup(new_cache_on, origin, short_folder):
    """What is not changed serves all the time; a change that fails changes nothing."""
    path, other = f"{short_folder}/socket", f"{short_folder}/other"
    cache = new_cache_on("[::1]:%d", f"unix:{path}")
    blob, six = origin.blob("team/app", noise(1000)), f"[::1]:{cache.ports[0]}"
    kept = f"127.0.0.1:{cache.port}"
    set_addresses(cache, kept, f"unix:{other}")
    hup(cache)
    assert serves(cache.address, blob) and serves(other, blob)
    assert not os.path.exists(path)
    with pytest.raises(ConnectionRefusedError):
        Connection(("::1", cache.ports[0]))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        set_addresses(cache, kept, f"unix:{path}", six, f"127.0.0.1:{taken.getsockname()[1]}")
        hup(cache, "the configuration is not changed")
    assert serves(cache.address, blob) and serves(other, blob)
    assert not os.path.exists(path)
    with pytest.raises(ConnectionRefusedError):
        Connection(("::1", cache.ports[0]))
    set_addresses(cache, six, kept)
    hup(cache)
    assert serves(("::1", cache.ports[0]), blob) and serves(cache.address, blob)
    assert not os.path.exists(other)


def test_a_unix_socket_outlives_a_listener(new_cache_on, origin, short_folder):
    path = f"{short_folder}/socket"
    cache = new_cache_on(f"unix:{path}")
    blob = origin.blob("team/app", noise(1000))
    for pid in list(cache.listeners().values()):
        os.kill(pid, signal.SIGKILL)
        cache.wait_replaced(pid)
        assert serves(path, blob) and not alive(pid)


@pytest.mark.parametrize("address, said", [
    ("unix:socket", "does not begin with '/'"), ("unix:/", "a folder's"), ("unix:/a b", "a blank"),
    ("unix:/" + "x" * 107, "more than 107"), ("[::1]", "no port"), ("a:1:2", "several colons"),
    ([], "an empty list"), ([["a"]], "a list"), ({"a": 1}, "a map")])
def test_what_is_no_address_is_said(new_cache, origin, address, said):
    cache = new_cache(origin, start=False)
    cache.config["server"]["address"] = address
    cache.config_path.write_text("".join(f"{k}: {json.dumps(v)}\n"
                                         for k, v in cache.config.items()))
    done = subprocess.run([BINARY, "-t", "-c", cache.config_path], capture_output=True, text=True)
    assert done.returncode == 2 and said in done.stderr and "server.address" in done.stderr, done
