"""What an origin serves, how it answers for it, and whom it lets in: data that a test sets."""
import base64
import collections
import dataclasses
import hashlib
import random
import threading
import urllib.parse

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCTETS = "application/octet-stream"


def digest_of(data, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def basic(user, password):
    """The Authorization value of a user."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Gate:
    """Stops a body at a byte until the test opens it."""

    def __init__(self, at=0):
        self.at = at
        self.reached = threading.Event()
        self.opened = threading.Event()

    def open(self):
        self.opened.set()

    def wait_reached(self, timeout=30):
        assert self.reached.wait(timeout), f"the origin never came to byte {self.at}"


@dataclasses.dataclass
class Answer:
    """How one request for a thing is answered; the default is an honest registry.

    Offsets are the object's, whatever range was asked for.
    """
    status: int = 200
    headers: tuple = ()           # ((name, value), …) besides the usual
    body: bytes = None            # other bytes than the object's
    content_type: str = None      # None: the object's; "": none is sent
    digest_header: bool = True
    framing: str = "length"       # length, close or chunked
    ranges: bool = True           # False: Range is not understood
    content_range: str = None     # of a 206, instead of the right one
    rate: float = None            # bytes a second
    at: int = None                # where `then` happens
    then: str = None              # fin, reset or hang
    extra: bytes = b""            # follows the body; Content-Length does not count it
    before_head: str = None       # hang, fin or reset instead of an answer
    location: str = None          # of a redirect
    gate: Gate = None


class Vast:
    """Bytes that nobody could keep: made where they are asked for. For a blob that is never fetched whole;
    its digest is of its size and seed only."""

    def __init__(self, size, seed=0):
        self.size = size
        self.pattern = random.Random(seed).randbytes((1 << 20) + 7)  # no power of 2: offsets show
        self.name = digest_of(f"{size} {seed}".encode())

    def __len__(self):
        return self.size

    def __getitem__(self, piece):
        first, stop, _ = piece.indices(self.size)
        at = first % len(self.pattern)
        some = self.pattern[at:at + stop - first]
        while len(some) < stop - first:
            some += self.pattern[:stop - first - len(some)]
        return some


class Thing:
    """A blob or manifest of one repository."""

    def __init__(self, origin, repository, kind, data, media_type, algorithm, tag=None):
        self.origin, self.repository, self.kind = origin, repository, kind
        self.data, self.media_type, self.tag = data, media_type, tag
        self.digest = data.name if isinstance(data, Vast) else digest_of(data, algorithm)
        self.answer = Answer()              # to GET
        self.once = collections.deque()     # to the next GETs, before `answer`
        self.head = None                    # to HEAD; None: as an honest registry
        self.needs_accept = False           # 404 unless Accept names the media type

    @property
    def size(self):
        return len(self.data)

    @property
    def target(self):
        return f"/v2/{self.repository}/{self.kind}/{self.digest}"

    @property
    def tag_target(self):
        return f"/v2/{self.repository}/{self.kind}/{self.tag}"

    def next_answer(self, method):
        if method == "HEAD":
            return self.head or Answer()
        return self.once.popleft() if self.once else self.answer


@dataclasses.dataclass
class Entry:
    """One request as the origin saw it."""
    method: str
    target: str
    headers: list
    thing: Thing = None
    status: int = 0
    sent: int = 0                 # body bytes given to the socket
    first: int = None             # offset in the object of the first of them
    first_body: float = None      # time.monotonic() when that one was sent
    ended: bool = False
    received: int = 0             # bytes of the request's own body
    peer: int = 0                 # the other side's port

    def header(self, name):
        values = [v for n, v in self.headers if n.lower() == name.lower()]
        return values[0] if values else None

    def values(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    @property
    def path(self):
        return self.target.split("?", 1)[0]

    @property
    def query(self):
        return urllib.parse.parse_qs(self.target.partition("?")[2])


class Access:
    """Who may read what: `grants` maps an Authorization (or None) to repositories ("*": all)."""

    def __init__(self, grants, challenge="basic", denial=403):
        self.grants, self.challenge, self.denial = dict(grants), challenge, denial

    def refusal(self, authorization, repository):
        """None when allowed, else the status."""
        granted = self.grants.get(authorization)
        if granted is None:
            return 401
        if repository is None or "*" in granted or repository in granted:
            return None
        return 401 if authorization is None else self.denial
