"""A host of a registry that is there and does not answer."""
import contextlib
import socket
import threading


class Trap:
    """A host that takes connections and never answers, or closes each at once."""

    def __init__(self, how="hang", port=0):
        self.how, self.taken, self.connections = how, [], 0
        self.listening = socket.create_server(("127.0.0.1", port), backlog=64)
        self.host = "127.0.0.1:%d" % self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                conn, _ = self.listening.accept()
                self.connections += 1
                if self.how == "hang":
                    self.taken.append(conn)
                else:
                    conn.close()

    def stop(self):
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        for s in [self.listening, *self.taken]:
            s.close()
