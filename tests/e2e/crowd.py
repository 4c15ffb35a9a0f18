"""Very many clients that do next to nothing, in a process of its own: idle ones have had an answer and keep
their connections; slow ones send their heads a byte now and then.

Prints "held" when all are there; ends when standard input ends, and prints how many are still open.
"""
import contextlib
import json
import select
import socket
import sys

HEAD = b"GET /v2/ HTTP/1.1\r\nHost: c\r\nX-Slow: "
SOURCES = [f"127.0.0.{n}" for n in range(20, 40)]    # one address has not ports enough
EVERY = 50                                           # a slow one sends in one of so many turns
TURN = 0.1


def connect(address, n):
    s = socket.socket()
    s.bind((SOURCES[n % len(SOURCES)], 0))
    s.connect(address)
    s.settimeout(60)
    return s


def idle(address, count):
    clients = []
    for n in range(count):
        s = connect(address, n)
        s.sendall(HEAD + b"\r\n\r\n")
        clients.append(s)
        if n % 500 == 499:
            read_answers(clients[-500:])
    read_answers(clients[-(count % 500):] if count % 500 else [])
    return clients


def read_answers(clients):
    for s in clients:
        data = b""
        while b"\r\n\r\n" not in data or not data.endswith(b"{}"):
            part = s.recv(4096)
            assert part, "an idle client was closed before its answer"
            data += part
        assert data.startswith(b"HTTP/1.1 200 "), data


def slow(address, count):
    clients = [connect(address, n) for n in range(count)]
    for s in clients:
        s.sendall(HEAD)
    return clients


def is_open(s):
    s.setblocking(False)
    try:
        return s.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def main():
    order = json.loads(sys.argv[1])
    make = idle if order["kind"] == "idle" else slow
    clients, turn = make(tuple(order["address"]), order["count"]), 0
    print("held", flush=True)
    while not select.select([sys.stdin], [], [], TURN)[0]:
        turn += 1
        for s in clients[turn % EVERY::EVERY] if order["kind"] == "slow" else []:
            with contextlib.suppress(OSError):
                s.send(b"x")
    print(json.dumps(sum(is_open(s) for s in clients)))


main()
