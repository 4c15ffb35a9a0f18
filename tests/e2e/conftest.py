"""Fixtures: origins and caches that end with the test, and a small disk."""
import pathlib
import ssl
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from clients import Site  # noqa: E402
from harness import UNPRIVILEGED, Cache, Swarm, give  # noqa: E402
from origin import Origin  # noqa: E402
from trap import Trap  # noqa: E402


@pytest.fixture
def new_origin():
    """Makes origins: new_origin(access=…)."""
    made = []

    def make(**options):
        made.append(Origin(**options))
        return made[-1].__enter__()

    yield make
    for o in made:
        o.stop()


@pytest.fixture
def origin(new_origin):
    return new_origin()


@pytest.fixture
def trap():
    """Makes traps: trap("hang"), trap("close")."""
    made = []

    def make(*args, **options):
        made.append(Trap(*args, **options))
        return made[-1]

    yield make
    for t in made:
        t.stop()


@pytest.fixture
def short_folder():
    """A folder whose name is short enough for Unix sockets; the cache may write there."""
    with tempfile.TemporaryDirectory(prefix="rc") as name:
        if UNPRIVILEGED:
            give(pathlib.Path(name), UNPRIVILEGED)
        yield name


@pytest.fixture
def small_disk(tmp_path):
    """Makes a tmpfs of so many bytes; skips where that is not allowed."""
    made = []

    def make(size, name="disk"):
        path = tmp_path / name
        path.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)],
                              capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
        made.append(path)
        return path

    yield make
    for path in made:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def new_cache(tmp_path, small_disk, new_origin):
    """Makes caches: new_cache(origin, server={…}). They end before their disks and origins do,
    and their logs must be clean then."""
    made = []

    def make(origin=None, start=True, **config):
        cache = Cache(tmp_path / f"cache{len(made)}", origin, **config)
        made.append(cache)
        return cache.start() if start else cache

    yield make
    problems = []
    for cache in made:
        try:
            cache.end()
        except AssertionError as e:
            problems.append(str(e))
    assert not problems, "\n".join(problems)


@pytest.fixture
def new_daemon():
    """Starts daemons, which end with the test: new_daemon(daemon, what its start takes)."""
    made = []

    def make(daemon, *args):
        made.append(daemon)
        return daemon.start(*args)

    yield make
    for daemon in reversed(made):
        daemon.stop()


@pytest.fixture
def cache(new_cache, origin):
    """A cache of two listeners in front of `origin`."""
    return new_cache(origin)


@pytest.fixture(scope="module")
def standing_pair(tmp_path_factory):
    with Origin() as origin:
        cache = Cache(tmp_path_factory.mktemp("standing"), origin)
        try:
            cache.start()
            yield cache, origin
        finally:
            cache.end()


@pytest.fixture
def standing(standing_pair):
    """(cache, origin) of the whole file, for the many tests that leave nothing in the cache."""
    _, origin = standing_pair
    origin.forget()
    origin.pages.clear()
    origin.uploads.clear()
    return standing_pair


@pytest.fixture
def swarm():
    """Starts swarms of clients: swarm(cache, target, count)."""
    made = []

    def make(*args, **options):
        made.append(Swarm(*args, **options))
        return made[-1]

    yield make
    for s in made:
        s.end()


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    """A CA, and a certificate of it for 127.0.0.1 and the names of the tests."""
    folder = tmp_path_factory.mktemp("pki")

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Test CA",
            "-keyout", "ca.key", "-out", "ca.crt")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=registry.test",
            "-keyout", "server.key", "-out", "server.csr")
    (folder / "extensions").write_text(
        "subjectAltName=IP:127.0.0.1,DNS:registry.test,DNS:auth.test,DNS:cache.test,"
        "DNS:*.cache.test\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial",
            "-days", "2", "-extfile", "extensions", "-out", "server.crt")
    if UNPRIVILEGED:
        give(folder, UNPRIVILEGED)
    return Pki(folder)


@pytest.fixture(scope="session")
def site(tmp_path_factory, pki):
    """Three real registries, open and private, for the tests of real clients."""
    made = Site(tmp_path_factory.mktemp("site"), pki)
    yield made.start()
    made.stop()


class Pki:
    """Paths of PEM files, and what Python makes of them."""

    def __init__(self, folder):
        self.ca, self.cert, self.key = (str(folder / n) for n in ("ca.crt", "server.crt", "server.key"))

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context

    def client_context(self):
        return ssl.create_default_context(cafile=self.ca)
