"""Large answers: sent in pieces, as fast as they are read; of a reader that stalls nothing is kept."""

import asyncio
import gc
import io
import json
import random
import socket
import string
import time

import msgspec
import pytest

from manent.api.http.pieces import PIECE_BYTES, as_json
from manent.api.http.protocol import BoundedHttp
from manent.engine import Message, Window, new_id
from manent.engine.audit.bundle import verify_bundle
from manent.engine.sessions.views import Omitted
from tests.api.conftest import STRANGE, settings_on
from tests.api.harness import in_thread, problem

READERS = 20
MESSAGES = 12
STALL_S = 1


def message(number, text):
    content = (msgspec.Raw(msgspec.json.encode({"type": "text", "text": text})),)
    names = {"id": new_id(), "session_id": new_id(), "version": number, "position": number, "role": "user"}
    rest = {"token_count": 1, "complete": True, "erased": None, "turn_id": None, "actor": "local", "created_at": ""}
    return Message(content=content, **names, **rest)


def window(messages, **fields):
    figures = {"session_id": new_id(), "version": 1, "model": "m", "budget_tokens": 1, "used_tokens": 1, "counter": "c"}
    rest = {"policy": "p", "system": None, "messages": messages, "omitted": Omitted(0, 0)}
    rest |= {"factor_permille": 1000, "overhead": 0, "reserve_tokens": 0, "system_tokens": 0}
    return Window(**figures | rest | fields)


async def pieces_of(value):
    async with as_json(value, "messages")._opened as pieces:
        return [piece async for piece in pieces]


@pytest.mark.parametrize("texts", [[], ["x"], [STRANGE, "", "y" * 1000], ["z" * PIECE_BYTES] * 4, ["w" * 100] * 3000])
async def test_pieces_are_the_same_json(texts):
    """Joined, they are what the struct would have been at once; none is larger than a piece and an item."""
    value = window(tuple(message(number, text) for number, text in enumerate(texts)), system='","messages":[],"x":"')
    pieces = await pieces_of(value)
    assert b"".join(pieces) == msgspec.json.encode(value)
    largest = max((len(msgspec.json.encode(each)) for each in value.messages), default=0)
    assert max(map(len, pieces)) <= PIECE_BYTES + largest + 1000
    assert (len(pieces) > 1) == (sum(map(len, texts)) > PIECE_BYTES)


def test_a_window_is_json_as_ever(client, session):
    """One object, compact, of its media type."""
    client.post(f"/api/sessions/{session}/messages", json={"content": STRANGE})
    response = client.get(f"/api/sessions/{session}/window")
    assert response.headers["content-type"] == "application/json"
    told = response.json()
    assert told["messages"][0]["content"] == [{"type": "text", "text": STRANGE}]
    assert json.loads(json.dumps(told)) == told
    assert list(told) == [*Window.__struct_fields__]


def test_a_window_for_an_older_client(server, client, session):
    """HTTP/1.0 knows no chunks: the answer ends with the connection."""
    with socket.create_connection(server.host, timeout=20) as connection:
        connection.sendall(b"GET /api/sessions/%b/window HTTP/1.0\r\nhost: localhost\r\n\r\n" % session.encode())
        answer = b""
        while chunk := connection.recv(1 << 16):
            answer += chunk
    body = answer.partition(b"\r\n\r\n")[2]
    assert json.loads(body) == client.get(f"/api/sessions/{session}/window").json()


# --- readers that do not read -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A server that is soon out of patience, and a session of twelve megabytes that do not compress well."""
    with in_thread(settings_on(tmp_path_factory.mktemp("large"), client_stall_s=STALL_S)) as server:
        yield server, filled(server, MESSAGES)


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A server that waits for its readers, and a session that does not fit between it and them."""
    with in_thread(settings_on(tmp_path_factory.mktemp("patient"))) as server:
        yield server, filled(server, 8)


def filled(server, megabytes):
    chance = random.Random(1)
    with server.client() as client:
        path = client.post("/api/sessions").headers["location"]
        for _ in range(megabytes):
            text = "".join(chance.choices(string.ascii_letters, k=1_000_000))
            client.post(f"{path}/messages", json={"content": text}).raise_for_status()
    return path


def buffered(server):
    """Bytes that wait in the server's connections, and how many of these there are."""

    async def look():
        protocols = [each for each in gc.get_objects() if isinstance(each, BoundedHttp)]
        alive = [each for each in protocols if each.transport is not None and each.parser is not None]
        return sum(each.transport.get_write_buffer_size() for each in alive), len(alive)

    return asyncio.run_coroutine_threadsafe(look(), server.loop).result(20)


def asking(server, path, count, buffer_bytes=4096):
    """Connections that ask, and do not read yet."""
    readers = []
    for _ in range(count):
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        reader.connect(server.host)
        reader.sendall(b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n" % path.encode())
        readers.append(reader)
    return readers


def until(condition, seconds):
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("below", "most_each"),
    [
        ("/window?budget_tokens=10000000", 1_200_000),
        ("/messages?limit=1000", 6_000_000),
        ("/export?format=openai", 1_200_000),
    ],
    ids=["window", "list", "export"],
)
def test_readers_that_stall_are_let_go(large, below, most_each):
    """While they stall, no more waits for them than a piece each, or a page; then their connections are gone, and what
    they would have read with them.
    """
    server, path = large
    count = 2 if "export" in below else READERS
    before = buffered(server)[1]
    readers = asking(server, path + below, count)
    most = 0

    def all_gone():
        nonlocal most
        waiting, connections = buffered(server)
        most = max(most, waiting)
        return most > 0 and connections <= before and waiting == 0

    assert until(all_gone, 20 + 2 * STALL_S)
    assert 0 < most <= count * most_each
    for reader in readers:
        reader.close()
    with server.client() as client:
        assert len(client.get(f"{path}/window", params={"budget_tokens": 10_000_000}).json()["messages"]) == MESSAGES


def test_a_slow_reader_gets_all_of_it(large):
    """Whoever reads on, however slowly, is not let go."""
    server, path = large
    (reader,) = asking(server, f"{path}/window?budget_tokens=10000000", 1, 1 << 20)
    answer, began = bytearray(), time.monotonic()
    reader.settimeout(20)
    while chunk := reader.recv(1 << 19):
        answer += chunk
        if answer.endswith(b"0\r\n\r\n"):
            break
        if time.monotonic() - began < 2.5 * STALL_S:
            time.sleep(0.1)
    reader.close()
    assert time.monotonic() - began > STALL_S
    assert len(answer) > MESSAGES * 1_000_000


# --- exports ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["bundle", "openai"])
def test_so_many_exports_at_once(patient, style):
    """One more is refused with a time to come again, and taken when there is room; who leaves makes room at once."""
    server, path = patient

    def exported():
        return client.get(f"{path}/export", params={"format": "openai"})

    with server.client() as client:
        readers = asking(server, f"{path}/export?format={style}", 2)
        assert until(lambda: exported().status_code == 503, 10)
        refused = exported()
        told = problem(refused, 503, "overloaded")
        assert (told["limit"], told["maximum"]) == ("max_exports", 2)
        assert int(refused.headers["retry-after"]) > 0
        readers[0].close()
        assert until(lambda: exported().status_code == 200, 10)
        readers[1].close()
        bundle = client.get(f"{path}/export").content
    assert verify_bundle.verify(io.BytesIO(bundle), []).manifest["events"] == 9


def test_a_refused_export_takes_no_room(client, session):
    """What is not there is not there, however often it is asked for; and HEAD leaves no export behind."""
    for _ in range(5):
        for style in ("bundle", "openai"):
            missing = client.get(f"/api/sessions/{new_id()}/export", params={"format": style})
            problem(missing, 404, "session_not_found")
            assert client.head(f"/api/sessions/{session}/export", params={"format": style}).status_code == 200
    assert client.get(f"/api/sessions/{session}/export").status_code == 200
