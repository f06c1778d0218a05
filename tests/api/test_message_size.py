"""A message's size is that of its content as it is recorded: compact JSON in UTF-8, however its sender wrote it."""

import base64
import json

import pytest

from tests.api.conftest import settings_on
from tests.api.harness import in_thread, problem

MOST = 1000
JSON_TYPE = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A client of a server that takes no more than MOST bytes."""
    folder = tmp_path_factory.mktemp("small")
    with in_thread(settings_on(folder, max_message_bytes=MOST)) as server, server.client() as client:
        yield client


@pytest.fixture
def path(small):
    return small.post("/api/sessions").headers["location"]


def size_of(content):
    return len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())


def text(length, letter="x"):
    return {"type": "text", "text": letter * length}


def image(length):
    data = base64.b64encode(bytes(length * 3 // 4)).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def filled(*blocks):
    """Blocks and a text with which they are exactly as large as may be."""
    rest = MOST - size_of([*blocks, text(0)])
    return [*blocks, text(rest)]


FULL = {
    "text": filled(),
    "two bytes a letter": [text((MOST - size_of([text(0)])) // 2, "é")],
    "four bytes a letter": filled(text(100, "😀")),
    "escapes that stay": filled(text(50, '"'), text(50, "\n")),
    "an image": filled(image(400)),
    "an image and words": filled(image(100), text(20, "世")),
}


@pytest.mark.parametrize("content", FULL.values(), ids=FULL)
def test_the_last_byte_that_fits(small, path, content):
    """Content of exactly as many bytes is taken and given back; a byte more is refused, with figures."""
    missing = MOST - size_of(content)
    content = [*content[:-1], text(0) | {"text": content[-1]["text"] + "x" * missing}]
    assert size_of(content) == MOST
    kept = small.post(f"{path}/messages", json={"content": content})
    assert kept.status_code == 201
    assert kept.json()["content"] == content
    assert size_of(small.get(f"{path}/messages").json()["items"][0]["content"]) == MOST
    longer = [*content[:-1], text(0) | {"text": content[-1]["text"] + "x"}]
    for body in ({"content": longer}, {"messages": [{"content": longer}]}):
        refused = problem(small.post(f"{path}/messages", json=body), 413, "too_large")
        assert (refused["limit"], refused["maximum"]) == ("max_message_bytes", MOST)


@pytest.mark.parametrize("letter", ["x", "é", "世", "😀", '"', "\u2028"])
def test_text_alone_is_a_block_of_text(small, path, letter):
    """Content that is text counts as the block that is recorded of it."""
    letters = (MOST - size_of([text(0)])) // (size_of(letter) - 2)
    assert small.post(f"{path}/messages", json={"content": letter * letters}).status_code == 201
    problem(small.post(f"{path}/messages", json={"content": letter * (letters + 1)}), 413, "too_large", "content")


def test_how_it_was_written_does_not_count(small, path):
    """Escapes and blanks that are not recorded take no room: one client's JSON is as good as another's."""
    content = [text((MOST - size_of([text(0)])) // 2, "é")]
    for sent in (json.dumps({"content": content}), json.dumps({"content": content}, indent=200)):
        assert len(sent) > MOST
        assert small.post(f"{path}/messages", content=sent.encode(), headers=JSON_TYPE).status_code == 201


def test_a_system_prompt_has_the_same_bound(small):
    """Of its text, in UTF-8."""
    assert small.post("/api/sessions", json={"system": "é" * (MOST // 2)}).status_code == 201
    refused = problem(small.post("/api/sessions", json={"system": "é" * (MOST // 2) + "x"}), 413, "too_large", "system")
    assert refused["maximum"] == MOST
