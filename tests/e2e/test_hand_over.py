"""A fill that its leader cannot go on with is gone on with by another: other credentials, another
upstream."""
import pytest
from client import MIB
from harness import Download, noise, wait_until
from script import Access, Answer, Gate, basic

ALICE, BOB = basic("alice", "a-secret"), basic("bob", "b-secret")
RULE = {"regex": r"^port-([0-9]+)\.cache\.test$", "host": "127.0.0.1:$group1", "scheme": "http",
        "trusted": True}
HOLD = 2 * MIB


class Meeting:
    """One client leads a fill that stops at a gate, another follows it on a listener that we know."""

    def __init__(self, cache, leader, follower, blob, seen_at, follows_on):
        """leader, follower: what their requests have of their own; seen_at: the origin that checks the
        follower."""
        gate = Gate(MIB)
        blob.once.append(Answer(gate=gate, at=HOLD, then="fin"))
        self.gate = gate
        self.first = Download(cache, blob.target, connection=cache.connect_to(0), **leader)
        gate.wait_reached()
        self.second = Download(cache, blob.target, connection=cache.connect_to(follows_on), **follower)
        wait_until(lambda: [e for e in seen_at.log if e.method == "HEAD" and e.ended],
                   "the follower is checked")


@pytest.mark.parametrize("follows_on", [0, 1], ids=["same-listener", "other-listener"])
def test_a_leader_whose_credential_was_revoked_hands_over(new_origin, new_cache, follows_on):
    origin = new_origin(access=Access({ALICE: "*", BOB: "*"}))
    cache = new_cache(origin, server={"listeners": 2})
    blob = origin.blob("team/app", noise(4 * MIB))
    met = Meeting(cache, {"headers": [("Authorization", ALICE)]}, {"headers": [("Authorization", BOB)]},
                  blob, origin, follows_on)
    del origin.access.grants[ALICE]
    met.gate.open()
    assert met.second.result().body == blob.data and met.second.answer.complete
    met.first.join()
    assert not met.first.intact(blob.data)
    got = [(e.header("Authorization"), e.header("Range"), e.status) for e in origin.gets(blob)]
    assert got == [(ALICE, None, 200), (ALICE, f"bytes={HOLD}-", 401), (BOB, f"bytes={HOLD}-", 206)]
    wait_until(lambda: cache.parts() == [] and cache.lease_count() == 0, "nothing stays")


@pytest.mark.parametrize("follows_on", [0, 1], ids=["same-listener", "other-listener"])
def test_an_upstream_that_died_does_not_take_another_ones_clients_with_it(new_origin, new_cache,
                                                                          follows_on):
    dies, lives = new_origin(), new_origin()
    cache = new_cache(server={"listeners": 2, "upstreamRules": [RULE], "firstByteTimeout": "1s"})
    data = noise(4 * MIB)
    blob, twin = dies.blob("team/app", data), lives.blob("team/app", data)
    met = Meeting(cache, {"host": f"port-{dies.port}.cache.test"},
                  {"host": f"port-{lives.port}.cache.test"}, blob, lives, follows_on)
    blob.answer = Answer(before_head="reset")
    met.gate.open()
    assert met.second.result().body == data and met.second.answer.complete
    met.first.join()
    assert not met.first.intact(data)
    assert [e.header("Range") for e in lives.gets(twin)] == [f"bytes={HOLD}-"]
    cache.check_objects()


def test_a_broken_fill_is_gone_on_with_by_the_next_request(new_cache, origin):
    cache = new_cache(origin, server={"listeners": 1, "firstByteTimeout": "1s"})
    blob = origin.blob("team/app", noise(4 * MIB))
    blob.once.append(Answer(at=HOLD, then="fin"))
    blob.answer = Answer(before_head="reset")
    first = Download(cache, blob.target)
    first.join()
    assert not first.intact(blob.data)
    blob.answer = Answer()
    cache.fetch(blob)
    assert origin.fetches(blob)[-1].header("Range") == f"bytes={HOLD}-"


def test_hundreds_of_pipelined_requests_are_all_answered(cache):
    count = 300
    with cache.connect() as c:
        request = (b"GET /v2/team/app/blobs/sha256:XYZ HTTP/1.1\r\nHost: cache\r\n\r\n")
        c.socket.sendall(request * count)
        for _ in range(count):
            assert c.receive().status == 400
