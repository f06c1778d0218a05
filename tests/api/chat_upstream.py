"""An upstream that speaks OpenAI's chat completions."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "prompt_tokens_details": {"cached_tokens": 400}}

CITED = {
    "type": "url_citation",
    "url_citation": {"start_index": 0, "end_index": 3, "title": "Yes", "url": "https://example.org/yes"},
}


class Upstream(BaseHTTPRequestHandler):
    """Says ``Yes.``, but by the model's name: ``broken`` fails, ``picky`` refuses, ``silent`` says nothing of its
    usage, ``cut`` breaks off, ``json`` answers in JSON, ``cited`` with an annotation, and ``refusing`` not at all.
    """

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(asked["model"])
        self.server.bodies.append(asked)
        status = {"broken": 500, "picky": 400}.get(asked["model"], 200)
        self.send_response(status)
        self.send_header("content-type", "application/json" if status != 200 else "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        if status != 200:
            self.wfile.write(b'{"error": {"message": "words of the upstream"}}')
            return
        text = '{"answer": 4}' if asked["model"] == "json" else "Yes."
        deltas = [{"refusal": "No."}] if asked["model"] == "refusing" else [{"content": text}]
        deltas += [{"annotations": [CITED]}] if asked["model"] == "cited" else []
        pieces = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        if asked["model"] != "cut":
            pieces.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            pieces += [] if asked["model"] == "silent" else [{"choices": [], "usage": USAGE}]
        common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": asked["model"]}
        for piece in pieces:
            self.wfile.write(b"data: %s\n\n" % json.dumps(common | piece).encode())
        if asked["model"] != "cut":
            self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_):
        """Nothing."""


@contextmanager
def upstream():
    """The server, with the names of the models that it was asked for, and the bodies of those requests."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        server.asked, server.bodies = [], []
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
