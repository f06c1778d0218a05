"""What callers send: every refusal names its field, and what is let in comes back as it was."""

import json

import msgspec
import pytest

from manent import engine
from manent.engine.errors import EngineError, Invalid, TooLarge
from manent.engine.events.blocks import (
    Base64Source,
    ImageBlock,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
    calls_of,
    raw_blocks,
    read_block,
    read_blocks,
    results_of,
    text_content,
    text_of,
    without_calls_and_thinking,
)
from manent.engine.service import inputs
from manent.engine.service.inputs import MessageIn, new_message
from manent.engine.settings import Settings

SETTINGS = Settings(
    max_message_bytes=1000, max_blocks=4, max_title_chars=10, max_metadata_bytes=50, max_budget_tokens=100
)


def raw(*blocks):
    return tuple(msgspec.Raw(block if isinstance(block, bytes) else json.dumps(block).encode()) for block in blocks)


TEXT = {"type": "text", "text": "x"}
USE = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


# --- content ----------------------------------------------------------------------------------------------------------

GOOD = {
    "text": (TEXT, TextBlock("x")),
    "a call": (USE, ToolUseBlock("a", "f", {"x": 1})),
    "a call as text": (USE | {"input": None, "input_text": "{x"}, ToolUseBlock("a", "f", None, "{x")),
    "a result": ({"type": "tool_result", "tool_use_id": "a"}, ToolResultBlock("a", "")),
    "a result of blocks": (
        {"type": "tool_result", "tool_use_id": "a", "content": [TEXT, IMAGE], "is_error": True},
        ToolResultBlock("a", (TextBlock("x"), ImageBlock(Base64Source("image/png", "AAAA"))), is_error=True),
    ),
    "thinking": ({"type": "thinking", "text": "x"}, ThinkingBlock("x")),
    "an image": (IMAGE, ImageBlock(Base64Source("image/png", "AAAA"))),
    "an image's address": (
        {"type": "image", "source": {"type": "url", "url": "https://x.example/y"}},
        ImageBlock(UrlSource("https://x.example/y")),
    ),
}


@pytest.mark.parametrize(("given", "block"), GOOD.values(), ids=GOOD)
def test_blocks_are_read_and_given_back(given, block):
    """Each block is read to its type, and what is stored of it is read to the same again."""
    assert inputs.check_content(raw(given), SETTINGS) == (block,)
    assert read_blocks(raw_blocks((block,))) == (block,)


def test_a_stored_block_of_an_unknown_type_is_kept_byte_for_byte():
    """A model gave it, and it is given back as it came."""
    given = b'{"type": "x",\t"a": 1.50, "a":2}'
    block = read_block(given)
    assert block == OtherBlock("x", given)
    assert bytes(raw_blocks((block,))[0]) == given


TYPES = ["text", "image", "tool_use", "tool_result", "thinking"]
UNKNOWN = {
    "a document": ({"type": "document", "source": {"type": "text", "data": "x"}}, "content[1]", TYPES),
    "a sound": ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, "content[1]", TYPES),
    "a vendor's own": ({"type": "redacted_thinking", "data": "AAAA"}, "content[1]", TYPES),
    "one in a result": (
        {"type": "tool_result", "tool_use_id": "a", "content": [TEXT, {"type": "document", "title": "x"}]},
        "content[1].content[1]",
        ["text", "image"],
    ),
    "a result in a result": (
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "tool_result", "tool_use_id": "b"}]},
        "content[1].content[0]",
        ["text", "image"],
    ),
}


@pytest.mark.parametrize(("given", "field", "types"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_callers_block_of_an_unknown_type_is_refused(given, field, types):
    """It would be left out of what models are sent: the refusal names it, and lists the types there are."""
    with pytest.raises(Invalid) as refused:
        inputs.check_content(raw(TEXT, given), Settings())
    assert (refused.value.code, refused.value.extra) == ("unknown_block", {"field": field, "available": types})


BAD = {
    "no object": (b"[]", "content[1]"),
    "no JSON": (b"{", "content[1]"),
    "no type": ({}, "content[1]"),
    "a type that is no text": ({"type": 1}, "content[1]"),
    "an empty type": ({"type": ""}, "content[1].type"),
    "a long type": ({"type": "x" * 129}, "content[1].type"),
    "a field too many": (TEXT | {"more": 1}, "content[1]"),
    "a field missing": ({"type": "text"}, "content[1]"),
    "a field of another type": ({"type": "text", "text": 1}, "content[1]"),
    "a NUL": ({"type": "text", "text": "a\0b"}, "content[1].text"),
    "a NUL deep in a call": (USE | {"input": {"a": [{"b": "\0"}]}}, "content[1].input.a[0].b"),
    "a NUL in a key": (USE | {"input": {"\0": 1}}, "content[1].input"),
    "half a character": (b'{"type":"text","text":"\\ud83d"}', "content[1]"),
    "a call's id": (USE | {"id": "a b"}, "content[1].id"),
    "a call without an id": (USE | {"id": ""}, "content[1].id"),
    "a call's long name": (USE | {"name": "f" * 129}, "content[1].name"),
    "a result's id": ({"type": "tool_result", "tool_use_id": "é"}, "content[1].tool_use_id"),
    "a result of a broken block": (
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text"}]},
        "content[1]",
    ),
    "an image of another kind": (
        {"type": "image", "source": IMAGE["source"] | {"media_type": "image/tiff"}},
        "content[1].source.media_type",
    ),
    "an image that is not base64": (
        {"type": "image", "source": IMAGE["source"] | {"data": "A-A="}},
        "content[1].source.data",
    ),
    "an image of odd length": (
        {"type": "image", "source": IMAGE["source"] | {"data": "AAA"}},
        "content[1].source.data",
    ),
    "an image of nothing": ({"type": "image", "source": IMAGE["source"] | {"data": ""}}, "content[1].source.data"),
    "an image's address": ({"type": "image", "source": {"type": "url", "url": "file:///x"}}, "content[1].source.url"),
    "bytes that are not UTF-8": (b'{"type":"x","a":"\xff"}', "content[1]"),
    "endless nesting": (b'{"type":"x","a":%s%s}' % (b"[" * 100_000, b"]" * 100_000), "content[1]"),
    "deep nesting with a NUL": (
        b'{"type":"tool_use","id":"a","name":"f","input":{"a":%s"\\u0000"%s}}' % (b"[" * 990, b"]" * 990),
        None,
    ),
}


@pytest.mark.parametrize(("given", "field"), BAD.values(), ids=BAD)
def test_blocks_of_another_form_are_refused(given, field):
    """The refusal names the block and, where it can, the field in it."""
    with pytest.raises(Invalid) as refused:
        inputs.check_content(raw(TEXT, given), Settings())
    assert field is None or refused.value.extra["field"] == field


def test_strange_text_is_let_in():
    """Every sign but NUL: control characters, right-to-left marks, U+2028, signs beyond U+FFFF, non-characters."""
    text = "".join(map(chr, range(1, 256))) + "\u2028\u2029\u202e\ufeff\ufffe\uffff😀\U0010ffff"
    assert inputs.check_content(text, SETTINGS) == text_content(text)
    assert read_blocks(raw_blocks(text_content(text))) == (TextBlock(text),)


def test_a_literal_backslash_is_no_nul():
    """What only looks like an escaped NUL is text."""
    (block,) = inputs.check_content(raw({"type": "text", "text": "\\u0000"}), SETTINGS)
    assert block.text == "\\u0000"


@pytest.mark.parametrize(
    "content",
    ["x" * 1001, "é" * 501, raw({"type": "text", "text": "x" * 1000}), raw(TEXT, TEXT, TEXT, TEXT, TEXT)],
    ids=["bytes", "bytes of UTF-8", "a block", "blocks"],
)
def test_content_has_a_limit(content):
    """Bytes of text or JSON, and the number of blocks; the refusal names the limit and its value."""
    with pytest.raises(TooLarge) as refused:
        inputs.check_content(content, SETTINGS)
    assert refused.value.extra["field"] == "content"
    limit = refused.value.extra["limit"]
    assert refused.value.extra["maximum"] == getattr(SETTINGS, limit)


@pytest.mark.parametrize(
    "check",
    [lambda text: inputs.check_content(text, SETTINGS), lambda text: inputs.check_system(text, SETTINGS)],
    ids=["content", "system"],
)
def test_half_characters_are_refused(check):
    """From a script, text may hold half surrogates: they cannot be recorded, and are refused as such."""
    with pytest.raises(Invalid):
        check("\ud83d")


REFUSED = {
    "a role": (lambda: inputs.check_role("robot"), "role"),
    "a NUL in a title": (lambda: inputs.check_title("\0", SETTINGS), "title"),
    "a long title": (lambda: inputs.check_title("x" * 11, SETTINGS), "title"),
    "a NUL in a prompt": (lambda: inputs.check_system("\0", SETTINGS), "system"),
    "a long prompt": (lambda: inputs.check_system("x" * 1001, SETTINGS), "system"),
    "a NUL in metadata": (lambda: inputs.check_metadata({"a": ["\0"]}, SETTINGS), "metadata.a[0]"),
    "a NUL in a key of metadata": (lambda: inputs.check_metadata({"\0": 1}, SETTINGS), "metadata"),
    "large metadata": (lambda: inputs.check_metadata({"a": "x" * 50}, SETTINGS), "metadata"),
    "no budget": (lambda: inputs.check_budget(0, SETTINGS, "budget_tokens"), "budget_tokens"),
    "a negative budget": (lambda: inputs.check_budget(-1, SETTINGS, "budget_tokens"), "budget_tokens"),
    "a huge budget": (lambda: inputs.check_budget(101, SETTINGS, "max_output_tokens"), "max_output_tokens"),
    "a cold temperature": (lambda: inputs.check_temperature(-0.1), "temperature"),
    "a hot temperature": (lambda: inputs.check_temperature(2.1), "temperature"),
    "no temperature": (lambda: inputs.check_temperature(float("nan")), "temperature"),
    "many stops": (lambda: inputs.check_stop(["x"] * 17), "stop"),
    "an empty stop": (lambda: inputs.check_stop(["x", ""]), "stop[1]"),
    "a long stop": (lambda: inputs.check_stop(["x" * 257]), "stop[0]"),
    "a NUL in a stop": (lambda: inputs.check_stop(["\0"]), "stop[0]"),
    "a tenant": (lambda: inputs.check_tenant("A"), "tenant"),
    "no tenant": (lambda: inputs.check_tenant(""), "tenant"),
    "a tenant that climbs": (lambda: inputs.check_tenant("../x"), "tenant"),
    "a long tenant": (lambda: inputs.check_tenant("x" * 65), "tenant"),
    "a tenant with a line end": (lambda: inputs.check_tenant("x\n"), "tenant"),
}


@pytest.mark.parametrize(("check", "field"), REFUSED.values(), ids=REFUSED)
def test_values_are_refused_with_their_field(check, field):
    """Each with a sentence that names the field."""
    with pytest.raises(EngineError) as refused:
        check()
    assert refused.value.extra["field"] == field
    assert refused.value.detail.startswith(field)


def test_values_within_their_limits_are_let_in():
    """The largest of each, and nothing where nothing may be given."""
    assert inputs.check_role("tool") == "tool"
    inputs.check_title("x" * 10, SETTINGS)
    inputs.check_title(None, SETTINGS)
    inputs.check_system("é" * 500, SETTINGS)
    inputs.check_system(None, SETTINGS)
    inputs.check_metadata({"a": {"b": [1, 2.5, None, True, "x"]}}, SETTINGS)
    inputs.check_metadata(None, SETTINGS)
    for budget in (None, 1, 100):
        inputs.check_budget(budget, SETTINGS, "budget_tokens")
    for temperature in (None, 0, 2, 0.7):
        inputs.check_temperature(temperature)
    inputs.check_stop(["x" * 256] * 16)
    for tenant in ("default", "a", "0-b._c", "x" * 64):
        inputs.check_tenant(tenant)


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        ("a", True),
        ("A-z_0.9", True),
        ("x" * 128, True),
        ("", False),
        ("x" * 129, False),
        ("a b", False),
        ("é", False),
        ("a\n", False),
    ],
)
def test_what_may_be_a_request_id(value, holds):
    """It stands in the log for ever, so it may hold no text."""
    assert inputs.is_correlation(value) is holds


async def test_a_message_is_counted_as_it_is_taken_in():
    """Its tokens are those of its blocks, short or long."""
    short = await new_message(MessageIn("one two three"), Settings())
    long = await new_message(MessageIn("one two three " * 5000), Settings())
    assert (short.role, short.tokens, short.content) == ("user", 3, text_content("one two three"))
    assert long.tokens > 14_000
    assert (await new_message(MessageIn(""), Settings())).tokens == 0


# --- content as it is read --------------------------------------------------------------------------------------------

BLOCKS = (
    TextBlock("a"),
    ThinkingBlock("t"),
    ToolUseBlock("1", "f"),
    ToolResultBlock("2", "r"),
    TextBlock(""),
    TextBlock("b"),
)


def test_what_a_person_reads_is_the_text():
    """Text blocks joined; thoughts, calls and results are not."""
    assert text_of(BLOCKS) == engine.text_of(BLOCKS) == "ab"


def test_calls_and_results_are_found_in_order():
    """Ids of calls and of the calls that are answered."""
    assert calls_of((ToolUseBlock("b", "f"), TextBlock("x"), ToolUseBlock("a", "f"))) == ("b", "a")
    assert results_of((ToolResultBlock("b"), ToolResultBlock("a"))) == ("b", "a")


def test_of_what_broke_off_the_text_is_sent_on():
    """Open calls, unsigned thoughts and empty texts are left out."""
    assert without_calls_and_thinking(BLOCKS) == (TextBlock("a"), TextBlock("b"))


def test_a_vendors_form_is_kept_byte_for_byte():
    """Beside a block it is not touched, whatever its spacing."""
    given = b'{"type":"thinking","text":"x","vendor":{"a" : 1.50}}'
    block = read_block(given)
    assert bytes(block.vendor) == b'{"a" : 1.50}'
    assert bytes(raw_blocks((block,))[0]) == given
