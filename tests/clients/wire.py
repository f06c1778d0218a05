"""A connection between a client and a server that can be cut at a chosen moment, as networks do."""

import socket
import threading
from contextlib import contextmanager, suppress


class Wire:
    """Listens at ``url`` and passes on what comes to ``target`` (host and port). The first ``cuts`` connections are cut
    after the client's request has gone through and ``before_cut`` has returned.
    """

    def __init__(self, target):
        self.target = target
        self.cuts = 0
        self.before_cut = lambda: None
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            cut, self.cuts = self.cuts > 0, max(0, self.cuts - 1)
            thread = threading.Thread(target=self._cut if cut else self._pass, args=(client,))
            thread.start()
            self._threads.append(thread)

    def _cut(self, client):
        with client, socket.create_connection(self.target) as server:
            server.sendall(_request(client))
            self.before_cut()

    def _pass(self, client):
        with client, socket.create_connection(self.target) as server:
            back = threading.Thread(target=_pump, args=(server, client))
            back.start()
            _pump(client, server)
            back.join()


def _request(client):
    """A whole request: its head, and as much of a body as that says."""
    read = b""
    while b"\r\n\r\n" not in read:
        read += client.recv(65536)
    head, _, body = read.partition(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += client.recv(65536)
    return head + b"\r\n\r\n" + body


def _pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire(target):
    """A wire, closed at the end."""
    made = Wire(target)
    try:
        yield made
    finally:
        made.close()
