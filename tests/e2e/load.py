"""Keep-alive clients that ask again and again until they are told to stop; what went wrong is told.

Started by test_reload.py as a process of its own; a client reconnects only when an answer said
"Connection: close", as a browser's or a runtime's pool does. Prints "going" after every client had an
answer; ends when standard input ends, and prints a JSON object.
"""
import hashlib
import json
import sys
import threading

from client import Connection

stop = threading.Event()


class Client(threading.Thread):
    def __init__(self, address, target, sha256):
        super().__init__(daemon=True)
        self.address, self.target, self.sha256 = address, target, sha256
        self.answers, self.problems, self.first = 0, [], threading.Event()
        self.start()

    def run(self):
        connection = None
        while not stop.is_set():
            try:
                connection = connection or Connection(self.address)
                answer = connection.request("GET", self.target)
            except Exception as e:  # whatever it is, the test must see it
                self.problems.append(f"after {self.answers} answers: {e!r}")
                connection = None
                continue
            self.take(answer)
            if (answer.header("Connection") or "").lower() == "close":
                connection.close()
                connection = None

    def take(self, answer):
        if answer.status != 200 or not answer.complete or \
                hashlib.sha256(answer.body).hexdigest() != self.sha256:
            self.problems.append(f"status {answer.status}, {len(answer.body)} bytes: {answer.problem}")
        self.answers += 1
        self.first.set()


def main():
    order = json.loads(sys.argv[1])
    clients = [Client(tuple(order["address"]), order["target"], order["sha256"])
               for _ in range(order["count"])]
    for c in clients:
        c.first.wait()
    print("going", flush=True)
    sys.stdin.read()
    stop.set()
    for c in clients:
        c.join()
    print(json.dumps({"answers": sum(c.answers for c in clients),
                      "problems": [p for c in clients for p in c.problems]}))


main()
