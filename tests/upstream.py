"""An upstream on a raw socket: it plays, request by request, what a test puts into its mouth, in both vendors' formats.

A *play* is a list of steps: bytes are said, a number is a pause in seconds, a function is awaited with the writer, and
``CLOSE``, ``RESET`` and ``HANG`` are what they say. After a play's end the connection stays open for the next request.
"""

import asyncio
import json
import socket
import struct
from contextlib import asynccontextmanager

from manent import engine

KEY = "sk-Secret.of-the_house-4711"
WORDS = "words of the upstream"
"""Stands in everything that an upstream says of a failure: no client may ever read it."""
MEANWHILE = "Meanwhile."
"""Who asks this is always answered well."""

CLOSE, RESET, HANG = "close", "reset", "hang"
LAST = b"0\r\n\r\n"
LINGER_S = 0.02
"""How long a peer is given to read what was said before the connection is reset under it."""


def part(data):
    """A chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def head(status=200, *headers, kind="text/event-stream"):
    """The head of an answer whose body comes in chunks."""
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", "transfer-encoding: chunked", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def page(status, body=b"", *headers, kind="application/json"):
    """A whole answer that is no stream."""
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(body)}", *headers]
    return ["\r\n".join(lines).encode() + b"\r\n\r\n" + body]


def sse(data, event=None):
    """One event: JSON, or a text as it stands."""
    text = data if isinstance(data, str) else json.dumps(data)
    return f"{f'event: {event}{chr(10)}' if event else ''}data: {text}\n\n".encode()


def endlessly(piece):
    """A step that says the same for ever."""

    async def step(writer):
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return step


# --- what the vendors say ---------------------------------------------------------------------------------------------


class Wire:
    """A vendor's protocol, as its server speaks it. ``model`` is the one that tests ask for."""

    name = provider = model = id_header = ""

    def at(self, address):
        """Settings of an engine that finds the vendor there."""
        raise NotImplementedError

    def begins(self):
        """What comes before anything of which something is to be seen."""
        raise NotImplementedError

    def says(self, text):
        """A piece of text."""
        raise NotImplementedError

    def opens(self):
        """What a text needs to have begun with."""
        return []

    def ends(self, *, usage=True, opened=True):
        """Up to the end marker; without usage, or with 7 tokens in and 3 out; ``opened``: after a text."""
        raise NotImplementedError

    def fails(self, word):
        """The error event, with the vendor's code."""
        raise NotImplementedError

    def refuses(self, word):
        """The body of a failure, with the vendor's code."""
        raise NotImplementedError

    def stream(self, *events, status=200):
        """A stream of these events, each in a chunk of its own; how it ends is another matter."""
        return [head(status, f"{self.id_header}: req_7"), *(part(event) for event in events)]

    def answer(self, *texts, usage=True):
        """A whole answer; of nothing, if there are no texts."""
        if not texts:
            return [*self.stream(*self.begins(), *self.ends(usage=usage, opened=False)), LAST]
        spoken = [self.says(text) for text in texts]
        return [*self.speaking(*spoken, *self.ends(usage=usage)), LAST]

    def speaking(self, *events):
        """The beginning of an answer, up to these events; how it ends is another matter."""
        return self.stream(*self.begins(), *self.opens(), *events)

    def refusal(self, status, word="some_error", *headers):
        """A failure before an answer."""
        return page(status, self.refuses(word), f"{self.id_header}: req_7", *headers)


class Chat(Wire):
    """OpenAI Chat Completions."""

    name, provider, model, id_header = "chat", "openai", "openai/gpt-x", "x-request-id"

    def at(self, address):
        return {"openai_base_url": f"{address}/v1", "openai_api_key": KEY, "openai_api": "chat"}

    def _choice(self, delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return sse({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]})

    def begins(self):
        return [self._choice({"role": "assistant", "content": ""})]

    def says(self, text):
        return self._choice({"content": text})

    def calls(self, call, name, arguments):
        """A whole answer that asks for a tool."""
        function = {"name": name, "arguments": arguments}
        asked = self._choice({"tool_calls": [{"index": 0, "id": call, "type": "function", "function": function}]})
        return [*self.stream(*self.begins(), asked, self._choice({}, "tool_calls"), sse("[DONE]")), LAST]

    def ends(self, *, usage=True, opened=True):
        figures = {"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
        return [self._choice({}, "stop"), *([sse(figures)] if usage else []), sse("[DONE]")]

    def fails(self, word):
        return sse({"error": {"message": f"{WORDS}, {KEY}", "type": word, "code": None}})

    def refuses(self, word):
        return json.dumps({"error": {"message": f"{WORDS}, {KEY}", "type": word, "code": None}}).encode()


class Responses(Wire):
    """OpenAI Responses."""

    name, provider, model, id_header = "responses", "openai", "openai/gpt-x", "x-request-id"

    def at(self, address):
        return {"openai_base_url": f"{address}/v1", "openai_api_key": KEY, "openai_api": "responses"}

    def _event(self, kind, **fields):
        return sse({"type": kind, **fields}, kind)

    def _item(self, status):
        return {"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": []}

    def begins(self):
        return [self._event("response.created", response={"id": "resp_1", "status": "in_progress", "output": []})]

    def opens(self):
        return [self._event("response.output_item.added", output_index=0, item=self._item("in_progress"))]

    def says(self, text):
        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        return self._event("response.output_text.delta", **place, delta=text)

    def ends(self, *, usage=True, opened=True):
        response = {"id": "resp_1", "status": "completed", "output": []}
        figures = {"usage": {"input_tokens": 7, "output_tokens": 3}} if usage else {}
        done = self._event("response.output_item.done", output_index=0, item=self._item("completed"))
        return [*([done] if opened else []), self._event("response.completed", response=response | figures)]

    def fails(self, word):
        return self._event("error", code=word, message=f"{WORDS}, {KEY}", param=None)

    def refuses(self, word):
        return json.dumps({"error": {"message": f"{WORDS}, {KEY}", "type": word, "code": None}}).encode()


class Claude(Wire):
    """Anthropic Messages."""

    name, provider, model, id_header = "claude", "anthropic", "anthropic/claude-x", "request-id"

    def at(self, address):
        return {"anthropic_base_url": address, "anthropic_api_key": KEY}

    def _event(self, kind, **fields):
        return sse({"type": kind, **fields}, kind)

    def begins(self):
        return [
            self._event("message_start", message={"id": "msg_1", "role": "assistant", "content": []}),
            self._event("ping"),
        ]

    def opens(self):
        return [self._event("content_block_start", index=0, content_block={"type": "text", "text": ""})]

    def says(self, text):
        return self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def ends(self, *, usage=True, opened=True):
        figures = {"usage": {"input_tokens": 7, "output_tokens": 3}} if usage else {}
        ends = self._event("message_delta", delta={"stop_reason": "end_turn"}, **figures)
        return [*([self._event("content_block_stop", index=0)] if opened else []), ends, self._event("message_stop")]

    def fails(self, word):
        return self._event("error", error={"type": word, "message": f"{WORDS}, {KEY}"})

    def refuses(self, word):
        return json.dumps({"type": "error", "error": {"type": word, "message": f"{WORDS}, {KEY}"}}).encode()


WIRES = (Chat(), Responses(), Claude())


# --- the server -------------------------------------------------------------------------------------------------------


class Request:
    """What was sent: the head as it came, the body's bytes, and when it was there."""

    def __init__(self, head_bytes, body):
        self.head = head_bytes
        self.body = body
        self.at_s = asyncio.get_running_loop().time()

    def json(self):
        return json.loads(self.body)


class Upstream:
    """A server on loopback, and what it has seen. ``requests`` are those that were not asked meanwhile."""

    def __init__(self, wire):
        self.wire = wire
        self.address = ""
        self.connections = 0
        self.requests = []
        self.running = 0
        self.most_running = 0
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self._plays = [wire.answer("Fine.")]
        self._first = 0

    def will(self, *plays):
        """What it does to the next requests, one play each; the last one is for all that follow. A play may be a
        function of the request.
        """
        self._plays, self._first = plays, len(self.requests)
        self.asked.clear()
        self.left.clear()

    @property
    def heard(self):
        """The requests since it was last told what to do."""
        return self.requests[self._first :]

    def play_for(self, request):
        if MEANWHILE.encode() in request.body:
            return self.wire.answer("Meanwhile, ", "all is well.")
        number = len(self.requests) - self._first
        self.requests.append(request)
        self.asked.set()
        play = self._plays[min(number, len(self._plays) - 1)]
        return play(request) if callable(play) else play

    async def serve(self, reader, writer):
        """One connection, until it is over."""
        self.connections += 1
        try:
            while True:
                request = await self._read(reader)
                self.running += 1
                self.most_running = max(self.most_running, self.running)
                try:
                    for step in self.play_for(request):
                        await self._do(step, reader, writer)
                finally:
                    self.running -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        except asyncio.CancelledError:
            pass  # the test is over; asyncio's server would log it
        finally:
            writer.close()

    async def _read(self, reader):
        lines = await reader.readuntil(b"\r\n\r\n")
        length = [line for line in lines.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await reader.readexactly(int(length[0].split(b":")[1]) if length else 0)
        return Request(lines, body)

    async def _do(self, step, reader, writer):
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
        elif isinstance(step, int | float):
            await asyncio.sleep(step)
        elif callable(step):
            await step(writer)
        elif step == HANG:
            await reader.read(1)
            raise ConnectionResetError
        else:
            await asyncio.sleep(LINGER_S)
            if step == RESET:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            raise ConnectionResetError


@asynccontextmanager
async def upstream(wire, *plays, tls=None):
    """A server of this protocol; without plays it answers well. ``tls``: the context to serve with."""
    seen, tasks = Upstream(wire), set()
    if plays:
        seen.will(*plays)

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        await seen.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    seen.address = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def nobody():
    """An address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


# --- an engine that asks it -------------------------------------------------------------------------------------------


@asynccontextmanager
async def asking(path, *sides, clock=None, **settings):
    """An engine on a file, with the members that its settings make of these (wire, address) pairs. Nothing is tried
    twice unless asked.
    """
    given = {"drain_s": 1, "max_attempts": 1}
    for wire, address in sides:
        given |= wire.at(address)
    async with engine.open(engine.Settings(database=str(path), **given | settings), clock=clock) as chat:
        yield chat


async def attempts_of(chat, session):
    """A session's attempts, as recorded: facts and words of their start, facts and words of their end (None while it
    runs).
    """
    found = []
    for event in (await chat.events(session, types=("attempt.started", "attempt.ended"), limit=1000)).items:
        told = json.loads(bytes(event.facts)), json.loads(bytes(event.body)) if event.body else {}
        if event.type == "attempt.started":
            found.append([*told, None, None])
        else:
            found[-1][2:] = told
    return [tuple(each) for each in found]


def says_nothing_of(secret, path, text=""):
    """Whether a secret stands in none of the files beside the database, nor in a text."""
    files = [file for file in path.parent.rglob("*") if file.is_file()]
    assert files
    return secret not in text and not [file for file in files if secret.encode() in file.read_bytes()]


async def gone(seen, timeout_s=5):
    """Wait until a peer has left."""
    async with asyncio.timeout(timeout_s):
        await seen.left.wait()
