"""A plain HTTP/1.1 client that reports exactly what came: each line and byte, and if it was all.

It follows nothing, tries nothing again and hides nothing; everything has a limit of time.
"""
import contextlib
import dataclasses
import hashlib
import json
import os
import socket
import time

SLOW = float(os.environ.get("REGISTRY_CACHE_SLOW", "1"))  # stretches every timeout
PATIENCE = 30 * SLOW
KIB, MIB = 1024, 1024 * 1024


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Body(bytes):
    """Bytes that a failing assertion names in short instead of comparing megabytes line by line."""

    __iter__ = None

    def __repr__(self):
        if len(self) <= 500:
            return super().__repr__()
        return f"<{len(self)} bytes, sha256 {sha256(self)}>"


class Closed(Exception):
    """The connection ended before an answer's head."""


@dataclasses.dataclass
class Answer:
    status: int
    version: str
    headers: list
    body: bytes = Body()
    complete: bool = False     # all that was promised came; without length: FIN, not RST
    first_byte: float = None   # time.monotonic() of the first body byte
    problem: str = ""

    def header(self, name):
        """The one value of this field, None when it is absent; two lines of it fail the test."""
        values = self.values(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    def values(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def json(self):
        return json.loads(self.body)

    def error_code(self):
        return self.json()["errors"][0]["code"]


class Connection:
    """One connection to (host, port), or to the path of a Unix socket; a small `receive_buffer`
    (bytes) makes a slow client. `source` is an address of this machine, `before` is sent first of
    all; `name` and `session` are for TLS."""

    def __init__(self, address, receive_buffer=None, timeout=PATIENCE, tls=None, source=None,
                 before=b"", name=None, session=None):
        self.address = address
        unix = isinstance(address, str)
        self.socket = socket.socket(socket.AF_UNIX if unix else socket.AF_INET6
                                    if ":" in address[0] else socket.AF_INET)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        if not unix:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(address)
        self.socket.sendall(before)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=name or address[0],
                                          session=session)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    @property
    def local_port(self):
        return self.socket.getsockname()[1]

    def send(self, data):
        self.socket.sendall(data)

    def head(self, method, target, headers=(), host=None, version="1.1", length=None):
        """The bytes of a request's head."""
        lines = [f"{method} {target} HTTP/{version}", f"Host: {host or self._host()}"]
        lines += [f"{n}: {v}" for n, v in headers]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _host(self):
        if isinstance(self.address, str):
            return "localhost"
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def ask(self, method, target, headers=(), body=None, **more):
        """Sends a request."""
        self.send(self.head(method, target, headers, length=None if body is None else len(body),
                            **more) + (body or b""))

    def request(self, method, target, headers=(), body=None, **more):
        """Sends a request and reads its whole answer."""
        self.ask(method, target, headers, body, **more)
        return self.receive(method)

    def receive(self, method="GET"):
        answer = self.receive_head()
        self.receive_body(answer, method)
        return answer

    def receive_head(self):
        """The head of the next final answer; Closed when there is none."""
        while True:
            while b"\r\n\r\n" not in self.pending:
                if not self._more():
                    raise Closed(f"after {self.pending!r}")
            head, _, self.pending = self.pending.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            version, status, _ = (first + " ").split(" ", 2)
            headers = [(n, v.strip()) for n, _, v in (line.partition(":") for line in lines)]
            if not 100 <= int(status) < 200:
                return Answer(int(status), version, headers)

    def receive_body(self, answer, method="GET", limit=None):
        """Reads the rest of the body, or of its first `limit` bytes (with Content-Length only)."""
        if method == "HEAD" or answer.status in (204, 304):
            answer.complete = True
        elif (answer.header("Transfer-Encoding") or "").lower() == "chunked":
            self._chunked(answer)
        elif answer.header("Content-Length") is not None:
            total = int(answer.header("Content-Length"))
            self._counted(answer, total if limit is None else min(limit, total))
            answer.complete = len(answer.body) == total
        else:
            self._until_close(answer)

    def closed_by_peer(self, timeout=10):
        """Waits until the other side ends the connection; True when it did, without a byte more."""
        with contextlib.suppress(ConnectionError):
            self.socket.settimeout(timeout * SLOW)
            try:
                return not self.pending and self.socket.recv(1) == b""
            except TimeoutError:
                return False
        return True

    def _more(self, answer=None):
        try:
            part = self.socket.recv(256 * KIB)
        except ConnectionError as e:
            if answer is None:
                raise Closed(str(e)) from e
            answer.problem = str(e)
            part = b""
        self.pending += part
        return bool(part)

    def _counted(self, answer, total):
        parts, have = [answer.body], len(answer.body)
        while have < total:
            if not self.pending and not self._more(answer):
                answer.problem = answer.problem or f"{have} of {total} bytes"
                break
            answer.first_byte = answer.first_byte or time.monotonic()
            part, self.pending = self.pending[:total - have], self.pending[total - have:]
            parts.append(part)
            have += len(part)
        answer.body = Body(b"".join(parts))

    def _line(self, answer):
        while b"\r\n" not in self.pending:
            if not self._more(answer):
                return None
        line, _, self.pending = self.pending.partition(b"\r\n")
        return line

    def _chunked(self, answer):
        while (line := self._line(answer)) is not None:
            size, before = int(line.split(b";")[0], 16), len(answer.body)
            self._counted(answer, before + size)
            if len(answer.body) < before + size:
                return
            if self._line(answer) is None:
                return
            if size == 0:
                answer.complete = True
                return
        answer.problem = answer.problem or "the last chunk is missing"

    def _until_close(self, answer):
        while self._more(answer):
            answer.first_byte = answer.first_byte or time.monotonic()
        answer.body, self.pending = Body(self.pending), b""
        answer.complete = not answer.problem
