"""Fills: one fetch for everybody, over all listeners, as fast as the upstream gives."""
import json
import re

import pytest
from client import KIB, MIB, SLOW, sha256
from harness import Download, noise, wait_until
from script import OCI_MANIFEST, Answer, Gate


def test_a_hundred_clients_on_four_listeners_cause_one_fetch(new_cache, origin, swarm):
    """64 MiB at 20 MB/s; everybody's first byte is there as soon as the origin's was. The clients' checks
    are over by then, so that the cache is measured and not the scripted origin's answers to HEAD."""
    cache = new_cache(origin, server={"listeners": 4, "streamers": 200}, log={"level": "trace"})
    blob = origin.blob("team/app", noise(64 * MIB))
    blob.answer = Answer(rate=20e6, gate=Gate(0))
    swarms = [swarm(cache, blob.target, 50) for _ in range(2)]
    for s in swarms:
        s.wait_sent()
    blob.answer.gate.wait_reached()
    wait_until(lambda: len(set(connected(cache))) == 100,
               "all are accepted")
    wait_until(lambda: list(states(cache).values()) == ["fill"] * 100, "all wait for bytes")
    blob.answer.gate.open()
    results = [r for s in swarms for r in s.results()]
    assert len(results) == 100
    assert {r["sha256"] for r in results} == {sha256(blob.data)}
    assert all(r["status"] == 200 and r["complete"] for r in results)
    fetches = origin.fetches(blob)
    assert len(fetches) == 1 and fetches[0].sent == blob.size
    delays = sorted(r["first_byte"] - fetches[0].first_body for r in results)
    assert delays[-1] < 0.1 * SLOW, f"first bytes came {delays} seconds after the origin's"
    assert len({a["listener"] for a in cache.access() if a.get("status") == "200"}) >= 2


def states(cache):
    """Request -> the state that it is in. A listener that asked for the lease a moment after another
    sends its first request through "fill" twice: arrivals there cannot be counted."""
    return dict(re.findall(r"request ([0-9a-f]+): \w+ -> (\w+)", cache.log()))


def connected(cache):
    """Client ports of the connections that listeners have accepted."""
    out = []
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table.readlines()[1:]:
            f = line.split()
            if int(f[1][9:], 16) == cache.port and f[3] == "01" and f[9] != "0":
                out.append(f[2])
    return out


def test_a_second_pull_fetches_nothing_and_is_a_hit(cache, origin):
    manifest, blobs = origin.image("team/app", "v1", [noise(MIB, i) for i in range(3)])
    for outcome in ("fill", "hit"):
        answer = cache.get(manifest.tag_target, [("Accept", OCI_MANIFEST)])
        assert answer.body == manifest.data
        for layer in [answer.json()["config"], *answer.json()["layers"]]:
            got = cache.get(f"/v2/team/app/blobs/{layer['digest']}")
            assert f"sha256:{sha256(got.body)}" == layer["digest"]
            cache.wait_access(reference=layer["digest"], outcome=outcome)
    for thing in (manifest, *blobs):
        assert len(origin.fetches(thing)) == 1, thing.target
        assert cache.object_path(thing.digest).read_bytes() == thing.data
    cache.check_objects()


def test_a_moved_tag_is_seen_at_once(cache, origin):
    for n in range(3):
        manifest = origin.manifest("team/app", "latest",
                                   json.dumps({"schemaVersion": 2, "n": n}).encode())
        for method in ("HEAD", "GET"):
            answer = cache.request(method, manifest.tag_target, [("Accept", OCI_MANIFEST)])
            assert answer.header("Docker-Content-Digest") == manifest.digest
        assert answer.body == manifest.data


def test_tag_digest_and_manifest_are_one_object(cache, origin):
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    for target in (manifest.tag_target, manifest.target, manifest.tag_target):
        answer = cache.get(target, [("Accept", OCI_MANIFEST)])
        assert (answer.body, answer.header("Content-Type")) == (manifest.data, OCI_MANIFEST)
    assert len(origin.fetches(manifest)) == 1
    assert cache.objects() == [cache.object_path(manifest.digest)]


@pytest.mark.parametrize("size",
                         [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 128 * KIB, 5 * MIB + 3])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_every_size_and_algorithm_is_served_cold_and_hot(cache, origin, size, algorithm):
    blob = origin.blob("team/app", noise(size, size), algorithm)
    for _ in ("cold", "hot"):
        answer = cache.fetch(blob)
        assert answer.header("Content-Length") == str(size)
        assert answer.header("Docker-Content-Digest") == blob.digest
    assert len(origin.fetches(blob)) == 1
    assert cache.object_path(blob.digest).read_bytes() == blob.data


def test_a_digest_of_an_unknown_algorithm_passes_and_is_not_kept(cache, origin):
    blob = origin.blob("team/app", b"some bytes", "sha384")
    for _ in range(2):
        assert cache.get(blob.target).body == blob.data
    assert cache.objects() == []


def test_an_escaped_colon_is_the_same_object(cache, origin):
    blob = origin.blob("team/app", noise(1000))
    cache.fetch(blob)
    assert cache.get(blob.target.replace("sha256:", "sha256%3A")).body == blob.data
    assert len(origin.fetches(blob)) == 1 and len(cache.objects()) == 1


def test_a_client_that_leaves_does_not_end_the_fill(cache, origin):
    blob = origin.blob("team/app", noise(2 * MIB))
    blob.answer = Answer(gate=Gate(MIB))
    with cache.connect() as c:
        c.ask("GET", blob.target)
        blob.answer.gate.wait_reached()
        c.receive_head()
    blob.answer.gate.open()
    wait_until(lambda: cache.object_path(blob.digest).exists(),
               "the fill is published though nobody is there")
    cache.fetch(blob)
    assert len(origin.fetches(blob)) == 1


def test_an_open_range_that_hangs_up_does_not_end_the_fill(cache, origin):
    """As containerd fetches a layer in pieces: bytes=N-, then it closes."""
    blob = origin.blob("team/app", noise(2 * MIB))
    blob.answer = Answer(gate=Gate(MIB))
    with cache.connect() as c:
        c.ask("GET", blob.target, [("Range", "bytes=1000-")])
        answer = c.receive_head()
        assert answer.status == 206
        assert answer.header("Content-Range") == f"bytes 1000-{blob.size - 1}/{blob.size}"
        c.receive_body(answer, limit=10 * KIB)
        assert answer.body == blob.data[1000:1000 + 10 * KIB]
    blob.answer.gate.open()
    wait_until(lambda: cache.object_path(blob.digest).exists(), "the fill is published")
    assert len(origin.fetches(blob)) == 1


def test_pieces_of_a_cold_blob_in_parallel_are_one_fetch(cache, origin):
    blob = origin.blob("team/app", noise(8 * MIB))
    piece = MIB
    downloads = [Download(cache, blob.target, [("Range", f"bytes={at}-{at + piece - 1}")])
                 for at in range(0, blob.size, piece)]
    answers = [d.result() for d in downloads]
    assert {a.status for a in answers} == {206}
    assert b"".join(a.body for a in answers) == blob.data
    assert len(origin.fetches(blob)) == 1


@pytest.mark.parametrize("listeners", [1, 4])
def test_a_follower_reads_while_the_leader_writes(new_cache, origin, listeners):
    cache = new_cache(origin, server={"listeners": listeners})
    blob = origin.blob("team/app", noise(4 * MIB))
    gate = Gate(2 * MIB)
    blob.answer = Answer(gate=gate)
    connections = [cache.connect_to(k % listeners) for k in range(2 * listeners)]
    answers = []
    for c in connections:
        c.ask("GET", blob.target)
        answers.append(c.receive_head())
        c.receive_body(answers[-1], limit=MIB)  # before the origin sent the rest
        assert not gate.opened.is_set() and answers[-1].body == blob.data[:MIB]
    gate.open()
    for c, answer in zip(connections, answers):
        c.receive_body(answer)
        assert answer.body == blob.data
        c.close()
    assert len(origin.fetches(blob)) == 1


def test_the_last_block_waits_for_the_digest(cache, origin):
    """All bytes but the last are here: the client may have all but the block that is held back."""
    blob = origin.blob("team/app", noise(MIB))
    blob.answer = Answer(gate=Gate(MIB - 1))
    with cache.connect() as c:
        c.ask("GET", blob.target)
        answer = c.receive_head()
        c.receive_body(answer, limit=MIB - 128 * KIB)
        blob.answer.gate.wait_reached()
        c.socket.setblocking(False)
        extra = drain(c)
        assert len(answer.body) + extra <= MIB - 64 * KIB
        c.socket.settimeout(30)
        blob.answer.gate.open()
        c.receive_body(answer)
        assert answer.body == blob.data


def drain(connection):
    """Takes what is there without waiting; how much it was."""
    try:
        while connection._more():
            pass
    except BlockingIOError:
        pass
    return len(connection.pending)


def test_workers_limit_the_fills_and_the_rest_wait_their_turn(new_cache, origin):
    cache = new_cache(origin, server={"workers": 2, "timeout": "60s"})
    blobs = [origin.blob("team/app", noise(MIB, i)) for i in range(6)]
    gates = [Gate(1000) for _ in blobs]
    for blob, gate in zip(blobs, gates):
        blob.answer = Answer(gate=gate)
    downloads = [Download(cache, b.target) for b in blobs]
    finished = 0
    while finished < len(blobs):
        running = wait_until(lambda: len(open_fills(origin, blobs)) == min(2, len(blobs) - finished)
                             and open_fills(origin, blobs), "as many fills run as may")
        gates[blobs.index(running[0])].open()
        finished += 1
        wait_until(lambda: running[0] not in open_fills(origin, blobs), "one ends")
    for blob, d in zip(blobs, downloads):
        assert d.result().body == blob.data
        assert len(origin.fetches(blob)) == 1


def open_fills(origin, blobs):
    """Blobs whose fetch has begun and not ended; never more than two."""
    out = [b for b in blobs if any(not e.ended for e in origin.fetches(b))]
    assert len(out) <= 2
    return out


def test_who_waits_too_long_for_a_worker_gets_503_with_retry_after(new_cache, origin):
    cache = new_cache(origin, server={"workers": 1, "timeout": "2s"})
    slow, other = (origin.blob("team/app", noise(MIB, i)) for i in range(2))
    slow.answer = Answer(gate=Gate(1000))
    first = Download(cache, slow.target)
    slow.answer.gate.wait_reached()
    answer = cache.get(other.target)
    assert answer.status == 503 and int(answer.header("Retry-After")) > 0
    assert answer.json()["errors"]
    slow.answer.gate.open()
    first.join(60)
    cache.fetch(other)


def test_many_cold_blobs_at_once_all_come_right(new_cache, origin):
    cache = new_cache(origin, server={"listeners": 4, "workers": 8})
    blobs = [origin.blob("team/app", noise(100_000 + i, i)) for i in range(40)]
    downloads = [(b, Download(cache, b.target)) for b in blobs for _ in range(2)]
    for blob, d in downloads:
        assert d.result().body == blob.data
    assert all(len(origin.fetches(b)) == 1 for b in blobs)
    cache.check_objects()
    wait_until(lambda: cache.parts() == [] and cache.lease_count() == 0,
               "no part and no lease stays")
