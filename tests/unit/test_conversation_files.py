"""Conversation files: what they may say, what is wrong with one, by line and column, and what is expected of a turn."""

import json
import re
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from manent.engine import Delta, Ended, InvalidConversation, Prompt, ProviderTruncated, ToolError, read_conversation
from manent.engine.providers.scripted import ScriptedProvider, parse_script
from manent.engine.service.conversation_files import base
from manent.engine.service.conversation_files.expectations import holds, same
from manent.engine.service.conversation_files.faults import FaultPlan, FaultyProvider
from manent.engine.service.conversation_files.paths import find, read_path
from manent.engine.service.conversation_files.reading import spec_of
from manent.engine.service.conversation_files.tools import ScriptedTool
from manent.engine.service.conversation_files.tree import read_tree

EXAMPLES = sorted((Path(__file__).parents[2] / "scripts/examples/conversations").glob("*.yaml"))


def read(text):
    return spec_of(read_conversation(text.encode(), "talk.yaml"))


def refused(text):
    """Why a file is refused, with line and column before it."""
    with pytest.raises(InvalidConversation) as caught:
        read_conversation(text if isinstance(text, bytes) else text.encode(), "talk.yaml")
    error = caught.value
    place = f"talk.yaml:{error.extra['line']}:{error.extra['column']}: "
    assert error.detail.startswith(place)
    assert (error.code, error.extra["file"]) == ("invalid_conversation", "talk.yaml")
    return error.detail.removeprefix("talk.yaml:")


def error_of(data):
    """The error of a file; None if it is good."""
    try:
        read_conversation(data, "f")
    except InvalidConversation as error:
        return error
    return None


# --- what a file may say ----------------------------------------------------------------------------------------------


def test_a_file_is_read():
    """Everything that a file may hold ends up where it belongs."""
    spec = read("""
system: Be brief.
model: scripted
tools:
  - calculator
  - {name: dice, results: [4, two, {error: lost}, {returns: null}]}
turns:
  - user: hello
    answers: [hi, {fail: provider_rejected}, [{thinking: Hm.}, there]]
    expect: {equals: [hi, ho], tool_called: [dice, {name: calculator, with: {a: 1}}], json: {$.a: null}, max_tokens: 3}
faults:
  - {turn: 1, attempt: 2, fail: {code: provider_unavailable, status: 503}, after_chars: 4}
""")
    assert (spec.system, spec.model, spec.tool_names) == ("Be brief.", "scripted", ("calculator", "dice"))
    (turn,) = spec.turns
    assert [type(answer).__name__ for answer in turn.answers] == ["str", "Step", "tuple"]
    assert turn.expect.equals == ("hi", "ho")
    assert [type(called).__name__ for called in turn.expect.tool_called] == ["str", "CalledTool"]
    (fault,) = spec.faults
    assert (fault.attempt, fault.step.fail.status) == (2, 503)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_good(path):
    """Each example of the checkout can be read."""
    assert read_conversation(path.read_bytes(), path.name).turn_count > 0


def test_words_are_not_taken_for_values():
    """Only what JSON would read as a value is one: ``no``, ``on`` and a time are texts."""
    for word in ("no", "on", "yes", "12:30", "2026-01-01", "1_000", "0b1", "truE"):
        assert read_tree(f"a: {word}".encode(), "f").value == {"a": word}
    plain = "{a: true, b: NULL, c: ~, d: -1.5e3, e: 0x1F, f: 017, g: '1', h: , i: 1., j: 0o17}"
    expected = {"a": True, "b": None, "c": None, "d": -1500.0, "e": 31, "f": 17, "g": "1", "h": None, "i": 1.0, "j": 15}
    assert read_tree(plain.encode(), "f").value == expected


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    # what YAML's own writer can quote, and a text can hold
    | st.text(st.characters(codec="utf-8", exclude_characters="\0\x85\u2028\u2029"), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc$. ", max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_is_read_as_json(value):
    """A file that is JSON gives the value that JSON gives."""
    assert same(read_tree(json.dumps({"value": value}).encode(), "f").value, {"value": value})


def _keys(node):
    """All keys of all mappings, with their places."""
    yield from node.keys.items()
    for each in node.inside.values():
        yield from _keys(each)


@given(JSON)
def test_what_another_writer_wrote_is_read_as_it_was(value):
    """A value that PyYAML wrote in block style comes back the same, each part with the place where it stands."""
    text = yaml.safe_dump({"value": value}, allow_unicode=True, sort_keys=False)
    tree = read_tree(text.encode(), "f")
    assert same(tree.value, {"value": value})
    lines = text.splitlines()
    for key, (line, column) in _keys(tree):
        assert lines[line - 1][column - 1 :].lstrip("'\"").startswith(key)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_anything_is_read_or_refused(data):
    """Whatever a file holds, it is a conversation or an error that says where."""
    error = error_of(data)
    assert error is None or min(error.extra["line"], error.extra["column"]) >= 1


@given(st.text(st.sampled_from("[]{}:,-&*!|>'\" \n\tab1#%?"), max_size=80))
def test_any_marks_of_yaml_are_read_or_refused(text):
    """As above, of text that looks like YAML."""
    error = error_of(text.encode())
    assert error is None or error.detail.startswith(f"f:{error.extra['line']}:{error.extra['column']}: ")


# --- what is wrong, and where -----------------------------------------------------------------------------------------

TURN = "turns:\n  - user: hello\n"

WRONG = {
    "a key of the file": (
        "sistem: x\n" + TURN,
        "1:1: there is no key `sistem` in a conversation file; did you mean `system`?",
    ),
    "a key of a turn": ("turns:\n  - usr: x\n", "2:5: there is no key `usr` in `turns`; did you mean `user`?"),
    "a key of an expectation": (
        TURN + "    expect: {contain: x}\n",
        "3:14: there is no key `contain` in `expect`; did you mean `contains`?",
    ),
    "a key of a called tool": (
        TURN + "    expect:\n      tool_called:\n        - {name: x, args: {}}\n",
        "5:21: there is no key `args` in `tool_called`; there is name, with",
    ),
    "a key of an answer": (
        "turns:\n  - user: x\n    answers:\n    - - {txt: a}\n",
        "4:10: there is no key `txt` in `answers`; did you mean `text`?",
    ),
    "a key of a fault": (
        TURN + "faults: [{turn: 1, fails: x}]",
        "3:20: there is no key `fails` in `faults`; did you mean `fail`?",
    ),
    "no turns": ("system: x\n", "1:1: `turns` is missing in a conversation file"),
    "an empty list of turns": ("turns: []\n", "1:8: `turns` must be a list of length >= 1"),
    "no user": ("turns:\n  - expect: {}\n", "2:5: `user` is missing in `turns`"),
    "a number for a text": ("turns:\n- user: 5\n", "2:9: `user` must be a text, and is a whole number"),
    "a text for a number": (
        TURN + "    expect: {max_tokens: few}\n",
        "3:26: `max_tokens` must be a whole number, and is a text",
    ),
    "nothing for a text": (
        TURN + "    expect: {contains: }\n",
        "3:23: `contains` must be a text or a list, and is empty",
    ),
    "an empty list": (TURN + "    expect: {contains: []}\n", "3:24: `contains` must be a list of length >= 1"),
    "a list for the file": ("- turns\n", "1:1: this must be a mapping, and is a list"),
    "a bad regular expression": (
        TURN + "    expect:\n      matches: [a, 'b(']\n",
        "4:20: the regular expression cannot be read: missing ), unterminated subpattern at position 1",
    ),
    "a bad JSON path": (
        TURN + "    expect: {json: {$.a: 1, $.b..c: 2}}\n",
        "3:29: the JSON path cannot go on with `..c`: it names one value, by .name, ['name'] or [0]",
    ),
    "a tool that is not there": (
        "tools: [{name: weather, returns: x}]\n" + TURN + "    expect: {tool_called: wether}\n",
        "4:27: no tool of this file is named `wether`; did you mean `weather`?",
    ),
    "two tools of a name": (
        "tools: [echo, {name: echo, returns: x}]\n" + TURN,
        "1:15: there are two tools named `echo`",
    ),
    "a tool that gives two things": (
        "tools: [{name: a, returns: x, error: y}]\n" + TURN,
        "1:9: `tools` - a tool has one of `returns`, `error`, `results` and `when`",
    ),
    "a case that gives nothing": (
        "tools: [{name: a, when: [{with: {}}]}]\n" + TURN,
        "1:26: `when` - needs `returns` or `error`, and not both",
    ),
    "parameters that are none": (
        "tools: [{name: a, returns: x, parameters: {type: array}}]\n" + TURN,
        '1:43: `parameters` is a JSON Schema of type "object"',
    ),
    "a fault of no turn": (TURN + "faults:\n- {turn: 2, hang: true}", "4:10: there is no turn 2, but 1"),
    "a fault of two kinds": (
        TURN + "faults: [{turn: 1, hang: true, truncate: true}]",
        "3:10: `faults` - a fault has one of `fail`, `truncate`, `hang` and `pause_ms`",
    ),
    "a fault given twice": (
        TURN + "faults: [{turn: 1, hang: true}, {turn: 1, truncate: true}]",
        "3:33: there is another fault for this turn and attempt",
    ),
    "an unknown failure": (
        TURN + "faults: [{turn: 1, fail: gone}]",
        (
            "3:10: `faults` - `code` is one of provider_unavailable, provider_rejected, provider_malformed, "
            "provider_too_large, provider_timed_out, provider_truncated"
        ),
    ),
    "answers of another model": (
        "model: echo/echo\nturns:\n- user: x\n  answers: [y]\n",
        "4:3: there are answers only where the model is `scripted`; here it is echo/echo",
    ),
    "scripted without answers": ("model: scripted\n" + TURN, "1:8: the model is `scripted`, and no turn has `answers`"),
    "a turn without answers": (
        "turns:\n- user: x\n  answers: [y]\n- user: z\n",
        "4:3: this turn has no `answers`, and others have",
    ),
    "a step of two kinds": (
        "turns:\n- user: x\n  answers:\n  - {text: y, thinking: z}\n",
        (
            "4:5: `answers` - a step has exactly one of text, thinking, tool, vendor, usage, pause_ms, end, fail, "
            "truncate, hang"
        ),
    ),
    "a key given twice": ("model: a\nsystem: b\nmodel: c\n", "3:1: the key `model` stands here twice; first in line 1"),
    "a key that is no text": ("1: a\n", "1:1: a key is a text; quote it: '1'"),
    "a key that is a list": ("[a]: b\n", "1:1: a key is a text"),
    "a merge key": ("a: &a {b: c}\n<<: *a\n", "2:1: there are no merge keys here"),
    "a tag": (
        "turns: !!python/object:os.system x\n",
        ("1:8: the tag tag:yaml.org,2002:python/object:os.system is not known here; values have no tags"),
    ),
    "an unknown anchor": ("turns: *a\n", "1:8: there is no anchor `a` before this alias"),
    "an alias of itself": ("turns: &a [*a]\n", "1:12: the alias `a` stands inside of what it names"),
    "an open bracket": (
        "turns: [\n",
        "2:1: expected the node content, but found '<stream end>' (while parsing a flow node)",
    ),
    "a tab": (
        "turns:\n\t- user: x\n",
        "2:1: found character '\\t' that cannot start any token (while scanning for the next token)",
    ),
    "two documents": (TURN + "---\n" + TURN, "3:1: a file holds one document"),
    "nothing": ("# only a comment\n", "1:1: the file is empty"),
    "no number": (
        TURN + "    expect: {json: {$: .inf}}\n",
        "3:24: .inf is no number that JSON has; quote it if it is a text",
    ),
    "too large a number": (
        TURN + "    expect: {json: {$: 1e999}}\n",
        "3:24: 1e999 is too large for a number; quote it if it is a text",
    ),
    "too large a whole number": (
        TURN + "    expect: {max_tokens: 18446744073709551616}\n",
        "3:26: 18446744073709551616 is too large for a number; quote it if it is a text",
    ),
    "an empty list of texts": (
        TURN + "    expect: {equals: []}\n",
        "3:22: `equals` must be a list of length >= 1",
    ),
    "a NUL": ('turns:\n- user: "a\\0"\n', "2:9: holds a NUL character, or half of a surrogate pair"),
    "a line's end of its own": (
        "turns:\n- user: a\u2028\n",
        '2:10: the character U+2028 cannot stand here; write "\\u2028"',
    ),
    "a control character": (b"turns:\n- user: a\x07\n", "2:10: the character U+0007 cannot stand here"),
    "bytes that are no text": ("turns:\n- user: ä".encode() + b"\xff", "2:10: is not UTF-8"),
    "too many bytes": (b"#" * (base.MAX_FILE_BYTES + 1), f"1:1: the file has more than {base.MAX_FILE_BYTES} bytes"),
    "too deep": ("a: " + "[" * base.MAX_DEPTH, f"1:{3 + base.MAX_DEPTH}: is nested more than {base.MAX_DEPTH} deep"),
    "too many digits": (f"a: {'1' * 5000}", "1:4: a number has at most 400 digits; quote it if it is a text"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named_where_it_stands(text, said):
    """Each mistake is told in a sentence, with its line and column; a misspelt key with the one that was meant."""
    assert refused(text) == said


def test_aliases_cannot_grow_beyond_the_bound():
    """Aliases of aliases count with all that they stand for: a small file does not become a large value."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert re.fullmatch(rf"5:\d+: the file holds more than {base.MAX_NODES} values", refused("\n".join(lines)))


def test_there_are_not_too_many_turns():
    """A file has so many turns at most."""
    text = "turns:\n" + "- user: x\n" * (base.MAX_TURNS + 1)
    assert refused(text) == f"2:1: `turns` must be a list of length <= {base.MAX_TURNS}"


# --- paths and values -------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(codec="utf-8"), max_size=8)


@given(st.lists(NAMES | st.integers(0, 9), max_size=5), st.booleans())
def test_a_path_finds_what_was_put_there(segments, single):
    """Whatever the names on the way, in either kind of quotes."""
    value, text = "found", ""
    for segment in reversed(segments):
        value = [None] * segment + [value] if isinstance(segment, int) else {segment: value}
    for segment in segments:
        quoted = json.dumps(segment)
        if single and isinstance(segment, str):
            quoted = "'" + quoted[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"
        text += f"[{quoted}]"
    path = read_path(f"${text}")
    assert path == tuple(segments)
    assert find(value, path) == "found"


@pytest.mark.parametrize(
    "path", ["", "a", "$.", "$a", "$[", "$[*]", "$..a", "$[01]", "$['a]", "$.a b", "$['\\x']", "$[1:2]"]
)
def test_a_path_that_names_no_one_value_is_refused(path):
    """With a sentence about paths."""
    with pytest.raises(ValueError, match=r"JSON path|is not well written"):
        read_path(path)


def test_a_path_that_leads_nowhere_finds_nothing():
    """A missing name, an element beyond the end, a name of a list and a number of a mapping."""
    for path in ("$.b", "$.a[2]", "$.a[-3]", "$.a.b", "$[0]", "$.a[0].b"):
        with pytest.raises(LookupError):
            find({"a": [1, 2]}, read_path(path))
    assert find({"a": [1, 2]}, read_path("$.a[-1]")) == 2


@given(JSON)
def test_a_value_is_the_same_as_itself_and_holds_itself(value):
    """Also after a way through JSON."""
    again = json.loads(json.dumps(value))
    assert same(value, again)
    assert holds(value, again)


def test_true_is_not_one():
    """Values are compared as JSON: 1 is 1.0, and neither is true."""
    assert same({"a": [1]}, {"a": [1.0]})
    for one, other in ((True, 1), (0, False), ({"a": True}, {"a": 1}), ([1], [1, 2]), ({}, {"a": 1}), ("1", 1)):
        assert not same(one, other)
        assert not same(other, one)


def test_a_part_is_held_by_the_whole():
    """Mappings may have more members, in any depth; lists may not."""
    whole = {"a": {"b": 1, "c": [1, {"d": 2}]}, "e": None}
    for part in ({}, {"a": {}}, {"a": {"b": 1}}, {"e": None}, {"a": {"c": [1, {"d": 2}]}}):
        assert holds(part, whole)
    for part in ({"f": None}, {"a": {"b": 2}}, {"a": {"c": [1]}}, {"a": {"c": [1, {}]}}):
        assert not holds(part, whole)


# --- faults -----------------------------------------------------------------------------------------------------------


@given(st.text(max_size=20), st.text(max_size=20), st.integers(1, 8), st.integers(1, 45))
async def test_a_cut_lets_so_many_characters_through(thinking, said, chunk, after):
    """However the answer comes in pieces, just so many characters of it come before the cut, or all there are; a pause
    at the same place changes nothing.
    """
    step = {"chunk_chars": chunk}
    steps = [{"thinking": thinking, **step}, {"text": said, **step}]
    script = parse_script(json.dumps({"models": {"m": [{"steps": steps}]}}).encode())

    async def heard(fault):
        plan = FaultPlan([base.Fault(1, after_chars=after, **fault)])
        plan.begin(1)
        provider = FaultyProvider(ScriptedProvider(script), plan)
        request = provider.renderers[provider.renderer](Prompt("m", ()))
        chunks = []
        with suppress(ProviderTruncated):
            async for each in provider.stream(request):
                chunks += [each]
        assert plan.missed() == []
        return "".join(each.text for each in chunks if isinstance(each, Delta)), isinstance(chunks[-1], Ended)

    assert await heard({"truncate": True}) == ((thinking + said)[:after], False)
    assert await heard({"pause_ms": 0}) == (thinking + said, True)


# --- scripted tools ---------------------------------------------------------------------------------------------------


async def test_tools_give_what_the_file_says():
    """The same each time, in order, or by arguments; and an error, where that is said, or nothing fits."""
    spec = read(
        """
tools:
  - {name: fixed, returns: {a: [1]}}
  - {name: broken, error: out of order}
  - {name: dice, results: [4, {error: lost}]}
  - {name: stock, when: [{with: {item: tea}, returns: 12}, {with: {item: gin}, error: no licence}]}
"""
        + TURN
    )
    fixed, broken, dice, stock = map(ScriptedTool, spec.tools)

    async def call(tool, **given):
        try:
            output = await tool.run(given, None)
        except ToolError as error:
            return error.detail
        return (output.content, output.is_error)

    assert [await call(fixed), await call(fixed, x=1)] == [('{"a":[1]}', False)] * 2
    assert await call(broken) == ("out of order", True)
    assert [await call(dice) for _ in range(3)] == [
        ("4", False),
        ("lost", True),
        "the conversation file has 2 results of dice; this is one call more",
    ]
    assert await call(stock, item="tea", size=2) == ("12", False)
    assert await call(stock, item="gin") == ("no licence", True)
    assert await call(stock) == "the conversation file has no result of stock for these arguments"
