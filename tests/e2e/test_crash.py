"""kill -9 of every kind of process at random points of fills: everybody else's clients get right
bytes, next to nothing is fetched twice, and nothing stays behind."""
import os
import random
import signal

from client import KIB, MIB, Closed
from harness import alive, all_taken, noise, wait_until
from script import Answer, Gate

SEED = int(os.environ.get("REGISTRY_CACHE_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
ROUNDS = ["leader", "follower", "leader", "gc", "leader"] * 10 + ["master"] * 5


class Client:
    """A request in flight on a listener that we know; reading is the test's own business."""

    def __init__(self, cache, listener, blob):
        self.listener, self.blob = listener, blob
        self.connection = cache.connect_to(listener)
        self.connection.ask("GET", blob.target)

    def finish(self):
        """The whole body, or None when the connection broke before its end."""
        try:
            answer = self.connection.receive()
        except (Closed, OSError):
            return None
        finally:
            self.connection.close()
        assert answer.status == 200, (answer.status, answer.body[:200])
        assert answer.body == self.blob.data[:len(answer.body)], "wrong bytes"
        return answer.body if answer.complete else None


def find_leader(cache, digest):
    """Who writes the part; when it has just been published, any listener will do."""
    wait_until(lambda: cache.leader(digest) is not None or cache.object_path(digest).exists(),
               "somebody leads")
    leader = cache.leader(digest)
    return 0 if leader is None else leader


def wait_taken(origin, blob):
    """What the kernel still holds for the victim would be lost with it: wait until it was read."""
    peer = origin.fetches(blob)[-1].peer
    wait_until(lambda: all_taken(origin.port, peer), "the leader has read what was sent")


def choose(cache, who, blob):
    """(pid, number of the listener or None) of the victim."""
    if who == "master":
        return cache.master, None
    if who == "gc":
        return cache.gc(), None
    leader = find_leader(cache, blob.digest)
    number = leader if who == "leader" else (leader + 1) % cache.listener_count
    return cache.listeners()[number], number


def one_round(cache, origin, rng, n, who):
    blob = origin.blob("team/app", noise(rng.choice([300 * KIB, MIB, 2 * MIB]) + n, n))
    at = rng.choice([0, rng.randrange(blob.size), rng.randrange(blob.size), blob.size])
    gate = Gate(at)
    blob.once.append(Answer(gate=gate, rate=30e6))
    flowing = rng.random() < 0.5
    if flowing:  # the bytes go on coming while the victim dies
        gate.open()
    order = rng.sample(range(cache.listener_count), cache.listener_count)  # the first will lead
    clients = [Client(cache, k, blob) for k in order for _ in range(2)]
    gate.wait_reached()
    if not flowing:
        wait_taken(origin, blob)
    pid, number = choose(cache, who, blob)
    os.kill(pid, signal.SIGKILL)
    if who == "master":
        cache.process.wait()
        wait_until(lambda: not any(alive(p) for p in cache.children()), "the children are gone")
    else:
        wait_until(lambda: not alive(pid), "the victim is dead")
    gate.open()
    bodies = [c.finish() for c in clients]
    context = (f"seed {SEED} round {n}: {who} (listener {number}) at byte {at} of {blob.size}"
               f"{', flowing' if flowing else ''}")
    for c, body in zip(clients, bodies):
        if who != "master" and c.listener != number:
            assert body == blob.data, context
    if who == "master":
        cache.start()
    else:
        cache.wait_replaced(pid)
    for k in range(cache.listener_count):
        with cache.connect_to(k) as c:
            assert c.request("GET", blob.target).body == blob.data, context
    # What was on its way to a dead process when it flows is lost with its socket, whatever we do.
    lost = MIB if who != "master" and not flowing else blob.size + 128 * KIB
    spent = origin.sent(blob)
    assert spent <= blob.size + lost, f"{context}: {spent} bytes fetched"
    return blob


def test_processes_killed_at_random_points_of_fills(new_cache, origin):
    print("seed", SEED)
    rng = random.Random(SEED)
    cache = new_cache(origin, server={"listeners": 3, "workers": 8})
    rounds = list(ROUNDS)
    rng.shuffle(rounds)
    blobs = []
    for n, who in enumerate(rounds):
        blobs.append(one_round(cache, origin, rng, n, who))
        if n % 4 == 3:  # a child that dies young again and again comes back later and later
            cache.restart()
    wait_until(lambda: cache.parts() == [], "no part stays", 20)
    wait_until(lambda: cache.lease_count() == 0, "no lease stays", 20)
    cache.check_objects()
    cache.restart()
    origin.forget()
    for blob in blobs:
        cache.fetch(blob)
    assert origin.gets() == []
    assert cache.parts() == []


def test_a_dead_leader_is_succeeded_by_a_follower_that_goes_on_by_range(new_cache, origin):
    cache = new_cache(origin, server={"listeners": 2})
    blob = origin.blob("team/app", noise(4 * MIB))
    gate = Gate(3 * MIB)
    blob.once.append(Answer(gate=gate))
    first = Client(cache, 0, blob)
    gate.wait_reached()
    follower = Client(cache, 1, blob)
    head = follower.connection.receive_head()
    follower.connection.receive_body(head, limit=2 * MIB)
    os.kill(cache.listeners()[0], signal.SIGKILL)
    follower.connection.receive_body(head)
    assert head.body == blob.data
    assert first.finish() is None
    gate.open()
    second = origin.fetches(blob)[1]
    assert second.header("Range").startswith("bytes=") and second.first >= 2 * MIB
    assert origin.sent(blob) <= blob.size + MIB


def test_two_dead_leaders_in_a_row_hurt_only_their_own_clients(new_cache, origin):
    cache = new_cache(origin, server={"listeners": 3})
    blob = origin.blob("team/app", noise(4 * MIB))
    gates = [Gate(MIB), Gate(2 * MIB)]
    blob.once.extend(Answer(gate=g) for g in gates)
    clients = {k: Client(cache, k, blob) for k in range(3)}
    for gate in gates:
        gate.wait_reached()
        wait_taken(origin, blob)
        leader = find_leader(cache, blob.digest)
        os.kill(cache.listeners()[leader], signal.SIGKILL)
        clients.pop(leader).finish()
        gate.open()
    (last,) = clients.values()
    assert last.finish() == blob.data
    assert origin.sent(blob) <= blob.size + 2 * MIB


def test_a_dead_leader_without_followers_leaves_its_part_to_the_next_request(new_cache, origin):
    cache = new_cache(origin, server={"listeners": 1})
    blob = origin.blob("team/app", noise(4 * MIB))
    gate = Gate(3 * MIB)
    blob.once.append(Answer(gate=gate))
    client = Client(cache, 0, blob)
    gate.wait_reached()
    pid = cache.listeners()[0]
    os.kill(pid, signal.SIGKILL)
    gate.open()
    assert client.finish() is None
    cache.wait_replaced(pid)
    cache.fetch(blob)
    wait_until(lambda: cache.parts() == [] and cache.lease_count() == 0, "nothing stays")
    cache.check_objects()


def test_a_part_that_nobody_wants_is_removed(new_cache, origin):
    cache = new_cache(origin, server={"listeners": 1})
    blob = origin.blob("team/app", noise(4 * MIB))
    blob.answer = Answer(gate=Gate(MIB))
    client = Client(cache, 0, blob)
    blob.answer.gate.wait_reached()
    cache.kill()
    assert client.finish() is None
    assert len(cache.parts()) == 1
    cache.start()
    wait_until(lambda: cache.parts() == [] and cache.lease_count() == 0,
               "the dead cache's part is gone", 20)


def test_an_object_without_a_record_is_adopted_not_fetched(cache, origin):
    """As after a death between rename and publish: the index does not know the file."""
    blob = origin.blob("team/app", noise(2 * MIB))
    cache.fetch(blob)
    cache.stop()
    for name in ("data.mdb", "lock.mdb"):
        (cache.data / "index" / name).unlink()
    cache.start()
    cache.fetch(blob)
    assert len(origin.fetches(blob)) == 1


def test_a_record_without_its_file_is_fetched_again(cache, origin):
    blob = origin.blob("team/app", noise(2 * MIB))
    cache.fetch(blob)
    cache.object_path(blob.digest).unlink()
    cache.fetch(blob)
    assert len(origin.fetches(blob)) == 2
    assert cache.object_path(blob.digest).read_bytes() == blob.data


def test_an_adopted_file_is_hashed_first(cache, origin):
    """Rubbish under an object's name, and the index was lost."""
    blob = origin.blob("team/app", noise(2 * MIB))
    cache.fetch(blob)
    cache.stop()
    for name in ("data.mdb", "lock.mdb"):
        (cache.data / "index" / name).unlink()
    cache.object_path(blob.digest).write_bytes(noise(2 * MIB, 1))
    cache.start()
    wait_until(lambda: cache.get(blob.target).body == blob.data, "the right bytes are served")
    cache.check_objects()


def test_after_the_machine_died_nothing_is_served_unhashed(cache, origin):
    """Another boot id in the mark, no clean shutdown, and a file whose pages were lost."""
    good, bad = origin.blob("team/app", noise(MIB, 1)), origin.blob("team/app", noise(MIB, 2))
    for blob in (good, bad):
        cache.fetch(blob)
    cache.kill()
    mark = cache.data / "index" / "state"
    text = mark.read_bytes()
    boot = open("/proc/sys/kernel/random/boot_id", "rb").read().strip()
    assert boot in text or boot.replace(b"-", b"") in text
    other = boot.replace(boot[:4], b"0000" if boot[:4] != b"0000" else b"1111")
    mark.write_bytes(text.replace(boot, other).replace(boot.replace(b"-", b""),
                                                       other.replace(b"-", b"")))
    cache.object_path(bad.digest).write_bytes(bytes(MIB))
    cache.start()
    for blob in (good, bad):
        answer = cache.get(blob.target)
        assert answer.status == 200 and answer.body == blob.data
    assert len(origin.fetches(good)) == 1 and len(origin.fetches(bad)) == 2
    cache.check_objects()
