"""A scripted origin registry: what it serves, how it misbehaves and whom it lets in is data that a
test sets (script.py).

One thread a connection, in the test's own process; every request and every body byte is in its log.
What the cache makes of it is the tests' business.
"""
import collections
import fcntl
import hashlib
import json
import re
import socket
import ssl
import struct
import termios
import threading
import time
import urllib.parse

from script import OCI_MANIFEST, OCTETS, Entry, Thing, Vast, digest_of

CHUNK = 64 * 1024
PATIENCE = 120  # seconds that a gate or a hang waits for a test that forgot it


class Gone(Exception):
    """The client left, or the script says that the connection ends here."""


class Origin:
    def __init__(self, access=None, tls=None, refuse_authorization=False, rate=None,
                 profile=None, port=0):
        self.access, self.tls, self.rate = access, tls, rate
        self.profile = profile  # profiles.py: what a kind of registry does otherwise
        self.refuse_authorization = refuse_authorization
        self.log, self.lock = [], threading.Lock()
        self.things = {}       # target -> Thing
        self.tags = collections.defaultdict(dict)
        self.raw = {}          # path -> Thing, outside /v2: a redirect's target
        self.pages = {}        # path -> (status, headers, body): anything else, for GET and HEAD
        self.limited = None    # Retry-After seconds: every request gets 429
        self.uploads = {}      # upload id -> bytearray
        self.stopping = threading.Event()
        self.sockets = set()
        self.listening = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port = self.listening.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.scheme = "https" if tls else "http"
        self.thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self):
        return f"{self.scheme}://{self.host}"

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Closes everything; what a script still holds ends with it."""
        self.stopping.set()
        with self.lock:
            open_sockets = list(self.sockets)
        for s in [self.listening, *open_sockets]:
            close_hard(s)
        self.thread.join(5)

    # --- what is served -------------------------------------------------------------------------

    def blob(self, repository, data, algorithm="sha256"):
        return self._add(Thing(self, repository, "blobs", data, OCTETS, algorithm))

    def manifest(self, repository, tag, data, media_type=OCI_MANIFEST, algorithm="sha256"):
        thing = self._add(Thing(self, repository, "manifests", data, media_type, algorithm, tag))
        self.tags[repository][tag] = thing
        return thing

    def image(self, repository, tag, layers):
        """A manifest over these layers and a config; returns (manifest, [config and layers])."""
        blobs = [self.blob(repository, data) for data in (b'{"architecture":"amd64","os":"linux"}',
                                                          *layers)]
        described = [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": b.digest,
                      "size": b.size}
                     for b in blobs]
        described[0]["mediaType"] = "application/vnd.oci.image.config.v1+json"
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described[0],
                    "layers": described[1:]}
        return self.manifest(repository, tag, json.dumps(document).encode()), blobs

    def _add(self, thing):
        self.things[thing.target] = thing
        return thing

    # --- what was asked -------------------------------------------------------------------------

    def entries(self, thing=None, method=None):
        """The log, of one thing (by digest or tag) or of all."""
        with self.lock:
            return [e for e in self.log
                    if thing in (None, e.thing) and method in (None, e.method)]

    def gets(self, thing=None):
        return self.entries(thing, "GET")

    def fetches(self, thing):
        """GETs that got bytes of the object, without a check's `Range: bytes=0-0`."""
        return [e for e in self.gets(thing) if e.header("Range") != "bytes=0-0"]

    def heads(self, thing=None):
        return self.entries(thing, "HEAD")

    def sent(self, thing):
        """Body bytes of the thing that went out, all requests together."""
        return sum(e.sent for e in self.entries(thing))

    def forget(self):
        with self.lock:
            self.log.clear()

    # --- connections ----------------------------------------------------------------------------

    def _accept(self):
        while not self.stopping.is_set():
            try:
                conn, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        try:
            conn.settimeout(PATIENCE)
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                conn = self.tls.wrap_socket(conn, server_side=True)
            with self.lock:
                self.sockets.add(conn)
            stream = conn.makefile("rb")
            while not self.stopping.is_set() and self._one(conn, stream):
                pass
            stream.close()
        except (Gone, OSError, ssl.SSLError, ValueError):
            pass
        finally:
            with self.lock:
                self.sockets.discard(conn)
            close_hard(conn)

    def _one(self, conn, stream):
        """Reads and answers one request; False when the connection ends."""
        if not stream.peek(1)[:1].isalpha():  # the end, or a client that tries TLS first
            return False
        line = stream.readline().decode("latin-1").strip()
        method, target, _ = line.split(" ", 2)
        headers = []
        while (field := stream.readline().decode("latin-1").rstrip("\r\n")):
            name, _, value = field.partition(":")
            headers.append((name, value.strip()))
        entry = Entry(method, target, headers, peer=conn.getpeername()[1])
        with self.lock:
            self.log.append(entry)
        try:
            Exchange(self, conn, stream, entry).answer()
        finally:
            entry.ended = True
        return True


def close_hard(s):
    for action in (lambda: s.shutdown(socket.SHUT_RDWR), s.close):
        try:
            action()
        except OSError:
            pass


class Exchange:
    """One request and its answer."""

    def __init__(self, origin, conn, stream, entry):
        self.origin, self.conn, self.stream, self.entry = origin, conn, stream, entry
        self.path = urllib.parse.unquote(entry.path)

    def answer(self):
        origin, e = self.origin, self.entry
        writing = e.method in ("POST", "PUT", "PATCH", "DELETE")
        body = self.read_body() if writing else b""
        if origin.refuse_authorization and e.header("Authorization"):
            return self.say(400, b"Only one auth mechanism allowed")
        if origin.limited is not None:
            return self.error(429, "TOOMANYREQUESTS", (("Retry-After", str(origin.limited)),))
        if writing:
            return self.write_request(body)
        if (thing := origin.raw.get(self.path)):
            return self.serve(thing)
        if self.path in origin.pages:
            return self.say(*self.page())
        return self.registry()

    def page(self):
        status, headers, body = self.origin.pages[self.path]
        return status, body, headers

    def registry(self):
        match = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", self.path)
        repository = match[1] if match else None
        thing = self.find(match)
        self.entry.thing = thing
        if self.origin.profile and self.origin.profile.answers(self, repository):
            return None
        if self.origin.access:
            refused = self.origin.access.refusal(self.entry.header("Authorization"), repository)
            if refused:
                return self.refuse(refused, repository)
        if thing:
            return self.serve(thing)
        if self.path in ("/v2/", "/v2"):
            return self.say(200, b"{}", (("Content-Type", "application/json"),))
        if match:
            return self.error(404,
                              "MANIFEST_UNKNOWN" if match[2] == "manifests" else "BLOB_UNKNOWN")
        return self.error(404, "NAME_UNKNOWN")

    def find(self, match):
        if not match:
            return None
        tagged = self.origin.tags[match[1]].get(match[3]) if match[2] == "manifests" else None
        return tagged or self.origin.things.get(match[0])

    def refuse(self, status, repository):
        if status != 401:
            return self.error(status, "DENIED" if status == 403 else "NAME_UNKNOWN")
        if self.origin.access.challenge == "basic":
            lines = [('WWW-Authenticate', 'Basic realm="origin"')]
        else:
            scope = f',scope="repository:{repository}:pull"' if repository else ""
            wrong = ',error="invalid_token"' if self.entry.header("Authorization") else ""
            lines = [("WWW-Authenticate",
                      f'Bearer realm="{self.origin.url}/token",service="origin"{scope}{wrong}'),
                     ("WWW-Authenticate", 'Basic realm="origin"')]
        return self.error(401, "UNAUTHORIZED", lines)

    # --- answers without scripts ----------------------------------------------------------------

    def error(self, status, code, headers=(), message=None):
        """`detail` makes the body this origin's own: a test sees that it was relayed."""
        message = message or f"origin says {code}"
        body = json.dumps({"errors": [{"code": code, "message": message,
                                       "detail": {"port": self.origin.port}}]}).encode()
        self.say(status, body, (("Content-Type", "application/json"), *headers))

    def say(self, status, body=b"", headers=()):
        self.head(status, [("Content-Length", str(len(body))), *headers])
        if self.entry.method != "HEAD" and body:
            self.conn.sendall(body)

    def head(self, status, headers):
        self.entry.status = status
        lines = [f"HTTP/1.1 {status} Scripted", "Docker-Distribution-Api-Version: registry/2.0",
                 *(f"{n}: {v}" for n, v in headers)]
        self.conn.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    # --- pushes ---------------------------------------------------------------------------------

    def write_request(self, body):
        origin, e = self.origin, self.entry
        if e.method == "DELETE":
            known = origin.things.pop(self.path, None)
            return self.say(202) if known is not None else self.error(404, "BLOB_UNKNOWN")
        if e.method == "POST" and self.path.endswith("/blobs/uploads/"):
            upload = f"u{len(origin.uploads)}"
            origin.uploads[upload] = bytearray()
            return self.uploading(202, self.path, upload)
        upload = self.path.rsplit("/", 1)[1]
        if upload in origin.uploads:
            return self.upload(body, upload)
        if e.method == "PUT" and "/manifests/" in self.path:
            return self.stored("manifests", self.path.rsplit("/", 2)[0], body)
        return self.say(200, body, (("Content-Type", e.header("Content-Type") or OCTETS),))

    def upload(self, body, upload):
        data = self.origin.uploads[upload]
        data.extend(body)
        if self.entry.method == "PATCH":
            return self.uploading(202, self.path.rsplit("/", 1)[0] + "/", upload)
        wanted = self.entry.query["digest"][0]
        if digest_of(bytes(data), wanted.split(":")[0]) != wanted:
            return self.error(400, "DIGEST_INVALID")
        del self.origin.uploads[upload]
        return self.stored("blobs", self.path.split("/blobs/uploads/")[0], bytes(data))

    def uploading(self, status, base, upload):
        """An absolute Location, as most registries send it."""
        data = self.origin.uploads[upload]
        self.say(status, b"", (("Location", f"{self.origin.url}{base}{upload}?state={len(data)}"),
                               ("Docker-Upload-UUID", upload),
                               ("Range", f"0-{max(len(data) - 1, 0)}")))

    def stored(self, kind, base, body):
        """What was pushed is served from now on."""
        repository = base.removeprefix("/v2/")
        if kind == "blobs":
            thing = self.origin.blob(repository, body)
        else:
            thing = self.origin.manifest(repository, self.path.rsplit("/", 1)[1], body,
                                         self.entry.header("Content-Type") or OCI_MANIFEST)
        self.say(201, b"",
                 (("Location", self.origin.url + thing.target),
                  ("Docker-Content-Digest", thing.digest)))

    def read_body(self):
        if self.entry.header("Expect") == "100-continue":
            self.conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self.read_chunked() if self.is_chunked() else self.read_counted()
        self.entry.received = len(body)
        return body

    def is_chunked(self):
        return (self.entry.header("Transfer-Encoding") or "").lower() == "chunked"

    def read_counted(self):
        size = int(self.entry.header("Content-Length") or 0)
        body = self.stream.read(size)
        if len(body) < size:
            raise Gone
        return body

    def read_chunked(self):
        parts = []
        while (size := int(self.stream.readline().split(b";")[0], 16)):
            parts.append(self.stream.read(size))
            if self.stream.readline() != b"\r\n":
                raise Gone
        while self.stream.readline().strip():
            pass
        return b"".join(parts)

    # --- scripted answers -----------------------------------------------------------------------

    def serve(self, thing):
        self.entry.thing = thing
        if thing.needs_accept and thing.media_type not in ", ".join(self.entry.values("Accept")):
            return self.error(404, "MANIFEST_UNKNOWN", message="OCI manifest found, but accept "
                              "header does not support OCI manifests")
        a = thing.next_answer(self.entry.method)
        self.misbehave(a.before_head)
        if a.location is not None:
            return self.say(a.status, b"over there", (("Location", a.location), *a.headers))
        if a.status != 200:
            return self.error(a.status, "UNKNOWN", a.headers)
        data = thing.data if a.body is None else a.body
        first, last, status = self.range_of(a, data)
        if status == 416:
            return self.say(416, b"", (("Content-Range", f"bytes */{len(data)}"),))
        self.head(status, self.object_headers(thing, a, data, first, last, status))
        if self.entry.method != "HEAD":
            self.body(a, data, first, last)

    def range_of(self, a, data):
        whole = (0, len(data) - 1, 200)
        value = self.entry.header("Range")
        if not value or not a.ranges:
            return whole
        if_range = self.entry.header("If-Range")
        if if_range and if_range != self.etag(data):
            return whole
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", value)
        if not match:
            return whole
        first = int(match[1]) if match[1] else max(len(data) - int(match[2]), 0)
        last = min(int(match[2]) if match[1] and match[2] else len(data) - 1, len(data) - 1)
        return (first, last, 206) if first <= last else (0, 0, 416)

    @staticmethod
    def etag(data):
        return f'"{data.name if isinstance(data, Vast) else hashlib.md5(data).hexdigest()}"'

    def object_headers(self, thing, a, data, first, last, status):
        headers = [("ETag", self.etag(data)), *a.headers]
        content_type = thing.media_type if a.content_type is None else a.content_type
        if content_type:
            headers.append(("Content-Type", content_type))
        if a.digest_header:
            headers.append(("Docker-Content-Digest", thing.digest))
        if a.ranges:
            headers.append(("Accept-Ranges", "bytes"))
        if status == 206:
            headers.append(("Content-Range",
                            a.content_range or f"bytes {first}-{last}/{len(data)}"))
        if a.framing == "length":
            headers.append(("Content-Length", str(last - first + 1)))
        elif a.framing == "chunked":
            headers.append(("Transfer-Encoding", "chunked"))
        else:
            headers.append(("Connection", "close"))
        return headers

    def body(self, a, data, first, last):
        self.entry.first = first
        self.started = time.monotonic()
        for stop in self.stops(a, first, last + 1):
            self.send_to(a, data, stop)
            if a.gate and stop == a.gate.at:
                self.wait_gate(a.gate)
            if a.then and stop == a.at:
                self.misbehave(a.then)
        if a.extra:
            self.piece(a, a.extra)
        if a.framing == "chunked":
            self.conn.sendall(b"0\r\n\r\n")
        if a.framing == "close" or a.extra:
            raise Gone

    @staticmethod
    def stops(a, first, end):
        """Where the body pauses, in order; its end is the last."""
        marks = {end}
        if a.gate and first <= a.gate.at <= end:
            marks.add(a.gate.at)
        if a.then and first <= a.at <= end:
            marks.add(a.at)
        return sorted(marks)

    def send_to(self, a, data, stop):
        view = data if isinstance(data, Vast) else memoryview(data)
        offset = self.entry.first + self.entry.sent
        while offset < stop:
            n = min(CHUNK, stop - offset)
            self.piece(a, view[offset:offset + n])
            offset += n

    def piece(self, a, part):
        if self.entry.first_body is None:
            self.entry.first_body = time.monotonic()
        self.entry.sent += len(part)  # before the client can have it: never count too little
        try:
            chunked = a.framing == "chunked"
            self.conn.sendall(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
        except OSError:
            self.entry.sent -= len(part)
            raise
        rate = a.rate or self.origin.rate
        if not rate:
            return
        ahead = self.started + self.entry.sent / rate - time.monotonic()
        if ahead > 0 and self.origin.stopping.wait(ahead):
            raise Gone

    def wait_gate(self, gate):
        gate.reached.set()
        for _ in range(PATIENCE * 20):
            if gate.opened.wait(0.05):
                return
            if self.origin.stopping.is_set():
                raise Gone
        raise Gone

    def wait_taken(self):
        """A reset throws away what is still on its way; wait until the other side has it all."""
        for _ in range(PATIENCE * 100):
            unsent = fcntl.ioctl(self.conn, termios.TIOCOUTQ, bytes(4))
            if unsent == bytes(4) or self.origin.stopping.wait(0.01):
                return

    def misbehave(self, how):
        if how == "reset":
            self.wait_taken()
            self.conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "hang":
            self.origin.stopping.wait(PATIENCE)
        if how:
            if how == "reset":
                self.conn.close()
                self.stream.close()
            raise Gone
