"""The disk limit: never passed, whatever is pulled; the coldest objects go; what is in use stays."""
import collections
import json
import pathlib
import random
import subprocess
import sys
import threading

import disk_use
from client import KIB
from harness import noise

HERE = pathlib.Path(__file__).resolve().parent
BLOCK = 4 * KIB


class Looker:
    """Samples the disk use of a cache from outside, every 50 ms."""

    def __init__(self, cache):
        self.process = subprocess.Popen([sys.executable, str(HERE / "disk_use.py"), str(cache.data)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "looking\n"

    def end(self):
        out, _ = self.process.communicate("\n", timeout=30)
        return json.loads(out)


def limited(new_cache, origin, limit, **server):
    return new_cache(origin, server=server, gc={"disk": {"maxSize": limit}})


def stored(cache, blobs):
    return [b for b in blobs if cache.object_path(b.digest).exists()]


# --- under load --------------------------------------------------------------------------------


def make_images(origin, rng, count):
    """Images of 1 to 4 layers of random sizes; some share a base layer."""
    bases = [noise(rng.randrange(64 * KIB, 512 * KIB), 10_000 + i) for i in range(12)]
    images = []
    for n in range(count):
        layers = [noise(int(2 ** rng.uniform(12, 20)), 100 * n + i)
                  for i in range(rng.randrange(1, 5))]
        if rng.random() < 0.3:
            layers.append(rng.choice(bases))
        images.append(origin.image(f"team/image{n}", "v1", layers))
    return images


class Puller(threading.Thread):
    """Pulls images as a client does: the tag, the config, the layers; keeps the order of all."""

    def __init__(self, cache, images, order, asked):
        super().__init__(daemon=True)
        self.cache, self.images, self.order, self.asked = cache, images, order, asked
        self.problem = None
        self.start()

    def run(self):
        try:
            with self.cache.connect() as c:
                for n in self.order:
                    self.pull(c, *self.images[n])
        except Exception as e:  # the test tells it
            self.problem = e

    def pull(self, connection, manifest, blobs):
        for thing, target in [(manifest, manifest.tag_target), *((b, b.target) for b in blobs)]:
            self.asked.append(thing)
            answer = connection.request("GET", target, [("Accept", manifest.media_type)])
            assert answer.status == 200 and answer.complete, (answer.status, answer.problem)
            assert answer.body == thing.data, "wrong bytes"


def lru_misses(asked, capacity):
    """What an LRU cache of this size, which makes room down to 95 %, would have fetched."""
    cache, use, misses = collections.OrderedDict(), 0, 0
    for thing in asked:
        size = -(-thing.size // BLOCK) * BLOCK
        if thing.digest in cache:
            cache.move_to_end(thing.digest)
            continue
        misses += 1
        if use + size > capacity:
            while cache and use + size > capacity * 0.95:
                use -= cache.popitem(last=False)[1]
        cache[thing.digest] = size
        use += size
    return misses


def test_the_limit_holds_under_load_and_the_hit_ratio_is_that_of_lru(new_cache, origin):
    """200 images, a cache a tenth as large, 32 clients. The hit ratio is within 0.05 of the model's,
    which knows neither that requests overlap nor what is reserved for fills in flight."""
    rng = random.Random(4)
    images = make_images(origin, rng, 200)
    total = sum({t.digest: t.size for m, blobs in images for t in (m, *blobs)}.values())
    limit = total // 10
    cache = limited(new_cache, origin, limit, workers=8)
    weights = [1 / (n + 1) for n in range(len(images))]
    rng.shuffle(weights)
    asked, looker = [], Looker(cache)
    pullers = [Puller(cache, images, rng.choices(range(len(images)), weights, k=30), asked)
               for _ in range(32)]
    for p in pullers:
        p.join()
    seen = looker.end()
    assert [p.problem for p in pullers if p.problem] == []
    assert seen["looks"] > 20 and seen["most"] <= limit, (seen, limit)
    assert seen["most"] > limit * 0.85, (seen, limit)  # it is used, too
    overhead = disk_use.look(cache.data) - sum(p.stat().st_blocks * 512 for p in cache.objects())
    model = lru_misses(asked, limit - overhead - limit // 64)
    fetched = sum(1 for e in origin.gets() if e.thing is not None and e.status == 200
                  and not e.target.endswith("/v1"))
    ratio, predicted = 1 - fetched / len(asked), 1 - model / len(asked)
    print(f"hit ratio {ratio:.3f}, LRU {predicted:.3f}, {len(asked)} requests, {seen}")
    assert abs(ratio - predicted) <= 0.05
    cache.check_objects()
