"""Several ranges in one request (RFC 9110 section 14.6): parts in the order asked for, none joined, each
with its own Content-Range; clients count them."""
import email.parser
import time

import pytest
from client import KIB, MIB, SLOW
from harness import Download, noise, wait_until
from script import Answer, Gate

DATA = noise(300_000)


@pytest.fixture
def blob(origin):
    return origin.blob("team/app", DATA)


def ask(cache, thing, ranges, headers=()):
    value = "bytes=" + ",".join(f"{a}-{b}" for a, b in ranges)
    return cache.get(thing.target, [("Range", value), *headers])


def parts_of(answer):
    """[(Content-Range, Content-Type, bytes)] of a multipart answer, read as strictly as Go's reader does."""
    kind = answer.header("Content-Type")
    assert kind.startswith("multipart/byteranges; boundary="), kind
    boundary = kind.split("boundary=")[1].encode()
    out, rest = [], answer.body
    assert rest.startswith(b"--" + boundary + b"\r\n")
    rest = b"\r\n" + rest
    while rest != b"\r\n--" + boundary + b"--\r\n":
        start = b"\r\n--" + boundary + b"\r\n"
        assert rest.startswith(start), rest[:100]
        head, _, rest = rest[len(start):].partition(b"\r\n\r\n")
        fields = email.parser.BytesParser().parsebytes(head)
        first, last = fields["Content-Range"].split()[1].split("/")[0].split("-")
        size = int(last) - int(first) + 1
        out.append((fields["Content-Range"], fields["Content-Type"], rest[:size]))
        rest = rest[size:]
    return out


def check_parts(answer, thing, ranges):
    assert answer.status == 206 and answer.complete, (answer.status, answer.problem, answer.body[:300])
    assert answer.header("Content-Range") is None
    assert answer.header("Transfer-Encoding") is None
    assert int(answer.header("Content-Length")) == len(answer.body)
    assert parts_of(answer) == [(f"bytes {a}-{b}/{thing.size}", "application/octet-stream",
                                 thing.data[a:b + 1]) for a, b in ranges]


CASES = {
    "two": [(0, 9), (20, 29)],
    "backwards": [(250_000, 250_999), (7, 7), (100_000, 199_999)],
    "overlapping": [(0, 99_999), (50_000, 149_999)],
    "adjacent": [(0, 9), (10, 19), (20, 29)],
    "the same": [(5, 9), (5, 9)],
    "large and small": [(0, 99_999), (299_999, 299_999), (100_000, 250_000), (1, 2)],
}


@pytest.mark.parametrize("ranges", CASES.values(), ids=CASES.keys())
def test_parts_come_in_order_and_each_for_itself_cold_and_hot(cache, blob, ranges):
    for _ in ("cold", "hot"):
        check_parts(ask(cache, blob, ranges), blob, ranges)
        wait_until(lambda: cache.object_path(blob.digest).exists(), "the fill is published")


def test_the_connection_goes_on_behind_the_parts(cache, blob):
    cache.fetch(blob)
    with cache.connect() as c:
        for ranges in CASES.values():
            value = "bytes=" + ",".join(f"{a}-{b}" for a, b in ranges)
            check_parts(c.request("GET", blob.target, [("Range", value)]), blob, ranges)


def test_ends_and_open_ranges_among_several(cache, blob):
    answer = cache.get(blob.target, [("Range", "bytes=-3, 299990-,0-0")])
    check_parts(answer, blob, [(299_997, 299_999), (299_990, 299_999), (0, 0)])


def test_one_of_several_that_can_be_is_one_part_and_no_plain_206(cache, blob):
    """podman would take a plain 206 for its first chunk."""
    answer = cache.get(blob.target, [("Range", "bytes=400000-400009,10-19,500000-")])
    check_parts(answer, blob, [(10, 19)])


def test_none_of_several_that_can_be_is_416(cache, blob):
    answer = cache.get(blob.target, [("Range", "bytes=400000-400009,500-0,-0")])
    assert (answer.status, answer.header("Content-Range")) == (416, f"bytes */{blob.size}")


def test_as_many_ranges_as_podman_asks_for(cache, blob):
    ranges = [(200 * k, 200 * k + 99) for k in range(1024)]
    for _ in ("cold", "hot"):
        check_parts(ask(cache, blob, ranges), blob, ranges)


@pytest.mark.parametrize("ranges", [
    [(200 * k, 200 * k) for k in range(1025)],
    [(0, 299_999), (0, 299_999), (0, 0)],
], ids=["1025", "more than twice the blob"])
def test_too_much_is_answered_with_the_whole(cache, blob, ranges):
    answer = ask(cache, blob, ranges)
    assert (answer.status, answer.header("Content-Range")) == (200, None)
    assert answer.complete and answer.body == DATA


def test_a_head_of_too_many_ranges_is_400(cache, blob):
    answer = ask(cache, blob, [(10_000_000 + k, 10_000_000 + k) for k in range(20_000)])
    assert answer.status == 400


def test_several_ranges_of_an_empty_blob_are_the_whole(cache, origin):
    empty = origin.blob("team/app", b"")
    answer = cache.get(empty.target, [("Range", "bytes=0-0,5-6")])
    assert (answer.status, answer.body) == (200, b"")


def test_parts_of_a_cold_blob_come_from_the_fill_and_from_ranges_beside_it(cache, origin):
    blob = origin.blob("team/app", noise(24 * MIB))
    gate = Gate(MIB)
    blob.once.append(Answer(gate=gate))
    ranges = [(20_000_000, 20_000_999), (0, 99), (23_000_000, 23_999_999), (500_000, 599_999)]
    check_parts(ask(cache, blob, ranges), blob, ranges)
    assert [e.header("Range") for e in origin.gets(blob)] == \
        [None, "bytes=20000000-20000999", "bytes=23000000-23999999"]
    gate.open()
    wait_until(lambda: cache.object_path(blob.digest).exists(), "the one fill is published")
    check_parts(ask(cache, blob, ranges), blob, ranges)


def test_parts_of_a_cold_blob_whose_upstream_has_no_ranges_wait_for_the_fill(cache, origin):
    blob = origin.blob("team/app", noise(24 * MIB))
    blob.answer = Answer(ranges=False)
    gate = Gate(MIB)
    blob.once.append(Answer(ranges=False, gate=gate))
    ranges = [(20_000_000, 20_000_999), (0, 99), (23_000_000, 23_999_999)]
    value = "bytes=" + ",".join(f"{a}-{b}" for a, b in ranges)
    download = Download(cache, blob.target, [("Range", value)])
    wait_until(lambda: len(origin.gets(blob)) == 2, "a range was tried")
    gate.open()
    check_parts(download.result(), blob, ranges)
    assert len(origin.gets(blob)) == 2


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_parts_of_what_cannot_be_kept(new_cache, origin, ranges):
    """From ranges upstream; where there are none, the whole once is better than a part at a time."""
    cache = new_cache(origin, gc={"disk": {"maxSize": "100KiB"}})
    blob = origin.blob("team/app", DATA)
    blob.answer = Answer(ranges=ranges)
    wanted = [(250_000, 250_999), (0, 9)]
    answer = ask(cache, blob, wanted)
    if ranges:
        check_parts(answer, blob, wanted)
    else:
        assert answer.status == 200 and answer.body == DATA


def test_many_parts_near_a_fill_that_stands_still_wait_once(cache, origin):
    """Not each of them for its own: they come from ranges beside it, one after the other."""
    blob = origin.blob("team/app", noise(4 * MIB))
    gate = Gate(MIB)
    blob.once.append(Answer(gate=gate))
    ranges = [(2 * MIB + 5000 * k, 2 * MIB + 5000 * k + 9) for k in range(100)]
    began = time.monotonic()
    check_parts(ask(cache, blob, ranges), blob, ranges)
    assert time.monotonic() - began < 10 * SLOW
    gate.open()


def test_a_slow_reader_of_many_parts_holds_no_one_up(cache, origin):
    big = origin.blob("team/app", noise(32 * MIB))
    cache.fetch(big)
    ranges = [(k * 64 * KIB, k * 64 * KIB + 60 * KIB) for k in range(500)]
    value = "bytes=" + ",".join(f"{a}-{b}" for a, b in ranges)
    with cache.connect(receive_buffer=16 * KIB) as slow:
        slow.ask("GET", big.target, [("Range", value)])
        answer = slow.receive_head()
        listener = cache.listener_of(slow)
        with cache.connect_to(listener) as other:
            other.socket.settimeout(5 * SLOW)
            assert other.request("GET", big.target, [("Range", "bytes=0-1")]).body == big.data[:2]
        slow.receive_body(answer)
    check_parts(answer, big, ranges)


def test_a_connection_that_ends_between_two_parts_is_cut(cache, origin):
    """The rest cannot be had: the body ends before its length, and looks like it."""
    blob = origin.blob("team/app", noise(4 * MIB))
    blob.once.append(Answer(at=MIB, then="reset"))
    blob.answer = Answer(status=404)
    answer = ask(cache, blob, [(0, 99), (3_000_000, 3_000_099)])
    assert answer.status == 206 and not answer.complete
    assert blob.data[:100] in answer.body
