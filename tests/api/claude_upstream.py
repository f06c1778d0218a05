"""An upstream that speaks Anthropic's Messages, in the exact forms that Anthropic sends (``tests/golden/wire``)."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WIRE = Path(__file__).parent.parent / "golden" / "wire"
COUNT = 4711


def said(name):
    """The bytes of a stream on file."""
    return (WIRE / f"{name}.sse").read_bytes()


def failure(status, kind):
    """An answer that is an error."""
    return status, json.dumps({"type": "error", "error": {"type": kind, "message": "words of the upstream"}}).encode()


class Upstream(BaseHTTPRequestHandler):
    """Plays one stream a request (``plays``; the last for all that follow), and keeps what it was asked. ``headers`` go
    with every answer.
    """

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["content-length"]))
        counts = self.path.startswith("/v1/messages/count_tokens")
        (self.server.counted if counts else self.server.asked).append((dict(self.headers), raw))
        if counts:
            self._answer(*self.server.counts, "application/json")
            return
        plays = self.server.plays
        play = plays.pop(0) if len(plays) > 1 else plays[0]
        status, body = play if isinstance(play, tuple) else (200, play)
        self._answer(status, body, "text/event-stream" if status == 200 else "application/json")

    def _answer(self, status, body, kind):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("request-id", "req_theirs")
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing."""


@contextmanager
def upstream():
    """The server: ``plays`` and ``counts`` say what it answers, ``asked`` and ``counted`` what it was sent."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        server.asked, server.counted, server.plays = [], [], [said("claude_text")]
        server.counts = 200, json.dumps({"input_tokens": COUNT}).encode()
        server.headers = {}
        server.daemon_threads = True
        server.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
