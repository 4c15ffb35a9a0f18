"""Many clients in one process: GETs one target on `count` connections at once; says what each got.

Started by harness.Swarm; prints "sent" when all requests are written, then one JSON list.
"""
import hashlib
import json
import re
import selectors
import socket
import sys
import time


class Client:
    def __init__(self, address, request):
        self.socket = socket.create_connection(address)
        self.socket.sendall(request)
        self.head, self.total, self.hash = b"", None, hashlib.sha256()
        self.result = {"status": 0, "bytes": 0, "complete": False, "first_byte": None}

    def read(self, buffer):
        """Takes what is there; False when the answer is over."""
        try:
            n = self.socket.recv_into(buffer)
        except OSError:
            n = 0
        if n == 0:
            return False
        data = memoryview(buffer)[:n]
        if self.total is None:
            data = self.read_head(bytes(data))
        if len(data):
            self.take(data)
        return self.total is None or self.result["bytes"] < self.total

    def read_head(self, data):
        self.head += data
        head, end, body = self.head.partition(b"\r\n\r\n")
        if not end:
            return b""
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        self.result["status"] = int(head.split(b" ", 2)[1])
        self.total = int(length[1]) if length else 0
        return body

    def take(self, data):
        if self.result["first_byte"] is None:
            self.result["first_byte"] = time.monotonic()
        self.hash.update(data)
        self.result["bytes"] += len(data)

    def end(self):
        self.socket.close()
        self.result["complete"] = self.total is not None and self.result["bytes"] == self.total
        self.result["sha256"] = self.hash.hexdigest()
        return self.result


def run(clients, most, wanted, end):
    """Reads, `most` bytes at a time, while clients are wanted; returns those that go on."""
    selector, buffer, going_on = selectors.DefaultSelector(), bytearray(most), []
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
    while selector.get_map() and time.monotonic() < end:
        for key, _ in selector.select(1):
            more = key.data.read(buffer)
            if more and wanted(key.data):
                continue
            selector.unregister(key.fileobj)
            if more:
                going_on.append(key.data)
    return going_on


def main():
    order = json.loads(sys.argv[1])
    host, port = order["address"]
    lines = [f"GET {order['target']} HTTP/1.1", f"Host: {host}:{port}", "Connection: close"]
    lines += [f"{n}: {v}" for n, v in order["headers"]]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    clients = [Client((host, port), request) for _ in range(order["count"])]
    print("sent", flush=True)
    end = time.monotonic() + order["timeout"]
    # Until all have their first byte, what we do ourselves must be little.
    going_on = run(clients, 2048, lambda c: c.result["first_byte"] is None, end)
    run(going_on, 256 * 1024, lambda c: True, end)
    print(json.dumps([c.end() for c in clients]))


main()
