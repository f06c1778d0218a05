"""An upstream that answers each request with the next of the streams that it was given, as they are in
``tests/golden/wire``, whatever the protocol.
"""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WIRE = Path(__file__).parent.parent / "golden" / "wire"


class Upstream(BaseHTTPRequestHandler):
    """``answers`` are names of streams, ``bodies`` what was asked."""

    def do_POST(self):
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write((WIRE / f"{self.server.answers.pop(0)}.sse").read_bytes())

    def log_message(self, *_):
        """Nothing."""


@contextmanager
def playing(*answers):
    """The server, with the bodies of the requests that came."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        server.answers, server.bodies, server.daemon_threads = list(answers), [], True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
