"""Tools: functions and their schemas, strict arguments, the calculator against Python's own arithmetic, the registry,
and everything that a call can come to.
"""

import ast
import asyncio
import enum
import hashlib
import json
import math
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from manent.engine.clock import SystemClock, new_id
from manent.engine.errors import Invalid, ToolError
from manent.engine.events.blocks import Base64Source, ImageBlock, TextBlock, ToolOutcome, ToolSchema, UrlSource
from manent.engine.log.sql.documents import digest_of
from manent.engine.tools.base import ToolContext, ToolOutput
from manent.engine.tools.builtin import MAX_BITS, builtin_tools, evaluate
from manent.engine.tools.functions import tool
from manent.engine.tools.registry import Tools, read_schemas, write_schemas
from manent.engine.tools.results import fit, repair
from manent.engine.tools.runner import DaemonThreads, ReadyCall, ToolCall, ToolLimits, ToolRunner
from tests.support import ManualClock

PIXEL = "iVBORw0KGgo="
ALL = object()


def a_call(name, input_text="{}", **changes):
    fields = {"tenant": "default", "session": new_id(), "turn": new_id(), "id": "call_1"}
    return ToolCall(**{**fields, **changes}, name=name, input_text=input_text)


async def outcome_of(each, input_text="{}", *, allowed=ALL, limits=None, **changes):
    """One call of one tool."""
    tools = Tools([each])
    runner = ToolRunner(tools, limits or ToolLimits(timeout_s=10), SystemClock())
    return await runner.call(a_call(each.name, input_text, **changes), tools.names() if allowed is ALL else allowed)


def returning(value):
    """A tool that returns the value."""

    @tool(name="give", description="Gives.")
    async def give():
        return value

    return give


def raising(error):
    @tool(name="fall", description="Falls.")
    async def fall():
        raise error

    return fall


# --- functions --------------------------------------------------------------------------------------------------------


class Unit(enum.Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


class Place(msgspec.Struct, forbid_unknown_fields=True):
    city: Annotated[str, Meta(description="a town", max_length=20)]
    country: str | None = None


@dataclass
class Span:
    days: Annotated[int, Meta(ge=1, le=14)]
    parts: list[Literal["day", "night"]] = field(default_factory=list)


THREE_DAYS = Span(3)


class Tree(msgspec.Struct):
    name: str
    children: list["Tree"] = []


def test_a_function_becomes_a_tool():
    """Name, description and schema come from it; limits in Meta become limits in the schema."""

    @tool
    def weather(
        context: ToolContext,
        place: Place,
        span: Span,
        *,
        unit: Unit = Unit.CELSIUS,
        share: float = 0.5,
        exact: bool = False,
        extra: dict[str, Any] | None = None,
        tags: list[str] = ["a"],  # noqa: B006 - what is tested
    ) -> str:
        """The forecast
        for a place.

        This is for people.
        """
        return "rain"

    assert (weather.name, weather.description) == ("weather", "The forecast for a place.")
    assert (weather.approval, weather.timeout_s, weather.max_output_bytes) == (False, None, None)
    assert weather.parameters == {
        "type": "object",
        "properties": {
            "place": {"$ref": "#/$defs/Place"},
            "span": {"$ref": "#/$defs/Span"},
            "unit": {"$ref": "#/$defs/Unit", "default": "celsius"},
            "share": {"type": "number", "default": 0.5},
            "exact": {"type": "boolean", "default": False},
            "extra": {"anyOf": [{"type": "object"}, {"type": "null"}], "default": None},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["place", "span"],
        "additionalProperties": False,
        "$defs": {
            "Place": {
                "title": "Place",
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "a town", "maxLength": 20},
                    "country": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
                },
                "required": ["city"],
                "additionalProperties": False,
            },
            "Span": {
                "title": "Span",
                "type": "object",
                "properties": {
                    "days": {"type": "integer", "minimum": 1, "maximum": 14},
                    "parts": {"type": "array", "items": {"enum": ["day", "night"]}},
                },
                "required": ["days"],
            },
            "Unit": {"title": "Unit", "enum": ["celsius", "kelvin"]},
        },
    }


def test_a_type_may_hold_itself():
    """A recursive schema refers to its parts and is an object at the root all the same."""

    @tool
    def plant(tree: Tree) -> int:
        """Plants."""
        return 1

    assert plant.parameters["type"] == "object"
    assert plant.parameters["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}


def test_options_override_what_the_function_says():
    """And a function may be given another name than its own."""
    made = tool(name="other", description="Does.", approval=True, timeout_s=2, max_output_bytes=9)(lambda: "x")
    assert (made.name, made.description, made.approval, made.timeout_s, made.max_output_bytes) == (
        "other",
        "Does.",
        True,
        2,
        9,
    )


async def test_arguments_arrive_as_their_types():
    """Structs, dataclasses, enums; what is not given is left to the function; the context comes first."""
    seen = []

    @tool
    async def note(
        context: ToolContext,
        place: Place,
        unit: Unit,
        span: Span = THREE_DAYS,
        tags: list[str] = ["a"],  # noqa: B006
    ) -> None:
        """Notes."""
        seen.append((context, place, unit, span, tags))

    turn = new_id()
    text = '{"place": {"city": "Ulm"}, "unit": "kelvin", "span": {"days": 2, "parts": ["day"]}}'
    outcome = await outcome_of(note, text, turn=turn, tenant="t", id="c7")
    assert (outcome.code, outcome.content) == ("completed", "null")
    ((context, place, unit, span, tags),) = seen
    assert (context.tenant, context.turn, context.call) == ("t", turn, "c7")
    assert (place, unit, span, tags) == (Place("Ulm"), Unit.KELVIN, Span(2, ["day"]), ["a"])


def untyped(city):
    """Untyped."""


def many(*cities: str):
    """Many."""


def any_named(**cities: str):
    """Named."""


def positional(city: str, /):
    """Positional."""


def late_context(city: str, context: ToolContext):
    """Late."""


def strange(number: complex):
    """Strange."""


def unresolved(city: "NoSuchType"):  # noqa: F821 - what is tested
    """Unresolved."""


def undescribed(city: str):
    return city


def generating():
    """Generates."""
    yield 1


async def generating_later():
    """Generates."""
    yield 1


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (untyped, "parameter city has no type"),
        (many, "parameter cities has no name of its own"),
        (any_named, "parameter cities has no name of its own"),
        (positional, "parameter city has no name of its own"),
        (late_context, "parameter context must come first"),
        (strange, "has a parameter that JSON cannot express"),
        (unresolved, "NoSuchType"),
        (undescribed, "neither a docstring nor a description"),
        (generating, "yields"),
        (generating_later, "yields"),
        (Place, "made from a function, not from"),
        ("text", "made from a function, not from str"),
    ],
)
def test_what_no_model_could_call_is_refused(function, words):
    """When the tool is made, and not when a model calls it."""
    with pytest.raises(ToolError, match=words):
        tool(function)


# --- arguments --------------------------------------------------------------------------------------------------------


@tool
def strict(
    number: int = 0,
    share: float = 0.0,
    flag: bool = False,
    text: str = "",
    some: list[int] = [],  # noqa: B006 - never changed
    place: Place | None = None,
    choice: Literal["a", "b"] = "a",
) -> str:
    """Strict."""
    return "taken"


TYPES = {
    "number": lambda value: type(value) is int,
    "share": lambda value: type(value) in {int, float},
    "flag": lambda value: type(value) is bool,
    "text": lambda value: type(value) is str,
    "some": lambda value: type(value) is list and all(type(item) is int for item in value),
    "place": lambda value: value is None,
    "choice": lambda value: value in {"a", "b"} if type(value) is str else False,
}
TEXT = st.text(st.characters(codec="utf-8"), max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(sorted(TYPES)), VALUES)
def test_a_value_is_taken_only_as_what_it_is(name, value):
    """No text becomes a number, no number a yes; whatever does not fit is refused by the argument's name."""
    if TYPES[name](value):
        strict.check({name: value})
    else:
        with pytest.raises(Invalid) as caught:
            strict.check({name: value})
        assert name in caught.value.detail


@given(TEXT.filter(lambda name: name not in TYPES), VALUES)
def test_an_unknown_argument_is_refused(name, value):
    """A model that invents one is told its name."""
    with pytest.raises(Invalid, match="unknown field"):
        strict.check({name: value})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "must be a JSON object"),
        ("nonsense", "must be a JSON object"),
        ("[1]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('"{}"', "must be a JSON object"),
        ('{"number": 1} {}', "must be a JSON object"),
        ('{"number": NaN}', "must be a JSON object"),
        ('{"share": 1e999}', "must be a JSON object"),
        ('{"text": "\\ud800"}', "must be a JSON object"),
        ('{"some": ' + "[" * 100_000, "nested too deeply"),
        ('{"number": "1"}', "Expected `int`, got `str` - at `$.number`"),
        ('{"place": {}}', "missing required field `city` - at `$.place`"),
        ('{"place": {"city": "x", "planet": "y"}}', "unknown field `planet` - at `$.place`"),
        ('{"number": 1, "number": 1}', "number: is given twice"),
        ('{"number": 1, "numb\\u0065r": 2}', "number: is given twice"),
        ('{"place": {"city": "x", "city": "y"}}', "city: is given twice"),
        ('{"some": [{"x": [{"deep": 1, "deep": 2}]}]}', "deep: is given twice"),
        ('{"choice": "c"}', "Invalid enum value 'c' - at `$.choice`"),
    ],
)
async def test_broken_arguments_are_told_to_the_model(text, words):
    """With what is wrong and where, and nothing runs."""
    outcome = await outcome_of(strict, text)
    assert (outcome.code, outcome.is_error) == ("invalid_arguments", True)
    assert words in outcome.content


async def test_no_text_at_all_means_no_arguments():
    """As vendors send it for a call without any."""
    assert (await outcome_of(strict, "")).content == "taken"


# --- the calculator ---------------------------------------------------------------------------------------------------


NUMBERS = st.integers(0, 10**6).map(str) | st.floats(0, 1e6).map(repr)
NAMES = {"pi": math.pi, "e": math.e, "abs": abs, "round": round, "min": min, "max": max} | {
    name: getattr(math, name) for name in ("sqrt", "log", "exp", "sin", "cos", "tan")
}
EXPRESSIONS = st.recursive(
    NUMBERS | st.sampled_from(["pi", "e", "0", "1", "2"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(" ".join),
        st.tuples(inner, st.sampled_from(["0", "1", "2", "3", "-1", "0.5"])).map("({0[0]}) ** {0[1]}".format),
        inner.map("({})".format),
        inner.map("-{}".format),
        inner.map("+ {}".format),
        st.tuples(st.sampled_from(["abs", "sqrt", "log", "exp", "sin", "cos", "tan", "round"]), inner).map(
            "{0[0]}({0[1]})".format
        ),
        st.tuples(st.sampled_from(["min", "max", "log"]), inner, inner).map("{0[0]}({0[1]}, {0[2]})".format),
        st.tuples(inner, st.integers(-3, 5)).map("round({0[0]}, {0[1]})".format),
    ),
    max_leaves=12,
)


@given(EXPRESSIONS)
def test_the_calculator_computes_as_python_does(expression):
    """The same value of the same type, and a refusal where Python raises or leaves the finite real numbers."""
    try:
        expected = eval(expression, {"__builtins__": {}}, NAMES)
        if type(expected) is complex or not math.isfinite(expected):
            expected = None
    except (ArithmeticError, ValueError, TypeError):
        expected = None
    try:
        value = evaluate(expression)
    except ToolError:
        # It may refuse more than Python: inside, infinities and complex numbers, which later vanish from the result.
        assert expected is None or leaves_the_reals(expression)
    else:
        assert (type(value), value) == (type(expected), expected)


def leaves_the_reals(expression):
    """Whether some part of the expression is infinite, complex or far too large."""
    for node in ast.walk(ast.parse(expression, mode="eval").body):
        if not isinstance(node, ast.expr):
            continue
        try:
            part = eval(ast.unparse(node), {"__builtins__": {}}, NAMES)
        except (ArithmeticError, ValueError):
            return True
        if type(part) is complex or (type(part) is int and part.bit_length() > MAX_BITS):
            return True
        if type(part) is float and not math.isfinite(part):
            return True
    return False


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 3 * 4", "14"),
        ("7 // 2 + 7 % 2", "4"),
        ("-2 ** 2", "-4"),
        ("1/4", "0.25"),
        ("2 ** 100", str(2**100)),
        ("  ( 1 +\t2 )  ", "3"),
        ("0.1 + 0.2", "0.30000000000000004"),
        ("round(2.675, 2)", "2.67"),
        ("log(8, 2)", "3.0"),
        ("max(1, 2.5, -3)", "2.5"),
        ("1_000 * 0x10", "16000"),
    ],
)
async def test_the_calculator_answers(expression, value):
    """As text, exact for whole numbers."""
    calculator = builtin_tools(ManualClock())[1]
    outcome = await outcome_of(calculator, json.dumps({"expression": expression}))
    assert (outcome.code, outcome.content) == ("completed", value)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("1 / 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("2 ** 10 ** 10", "too large"),
        ("9 ** 9 ** 9 ** 9", "too large"),
        ("(10 ** 1000) * (10 ** 1000)", "too large"),
        ("(2 ** 4000) ** (2 ** 4000)", "too large"),
        ("1e308 * 10", "too large"),
        ("1e999", "too large"),
        ("2.0 ** 5000", "too large"),
        ("exp(1000)", "too large"),
        ("sqrt(10 ** 1000)", "too large"),
        ("round(1234, -100000000)", "whole number from -400 to 400"),
        ("round(1.5, 0.5)", "whole number from -400 to 400"),
        ("(-8) ** 0.5", "not a real number"),
        ("sqrt(-1)", "not defined"),
        ("log(0)", "not defined"),
        ("sqrt()", "takes 1 arguments, not 0"),
        ("log(1, 2, 3)", "takes 1 to 2 arguments, not 3"),
        ("min()", "takes 1 to 100 arguments, not 0"),
        ("2 ^ 3", "written **"),
        ("1j * 2", "only numbers"),
        ("True + 1", "only numbers"),
        ("'a' * 3", "only numbers"),
        ("x + 1", "only numbers"),
        ("[1][0]", "only numbers"),
        ("1 << 1000000000", "only numbers"),
        ("round(1.5, ndigits=1)", "only numbers"),
        ("min(*[1, 2])", "only numbers"),
        ("(lambda: 1)()", "only numbers"),
        ("__import__('os').system('true')", "only numbers"),
        ("(1).__class__", "only numbers"),
        ("1 if 1 else 2", "only numbers"),
        ("import os", "not an arithmetic expression"),
        ("1 +", "not an arithmetic expression"),
        ("1\0+1", "not an arithmetic expression"),
        (" ", "not an arithmetic expression"),
        ("(" * 400 + "1" + ")" * 400, "not an arithmetic expression"),
        ("-" * 900 + "1", "nested|not an arithmetic expression"),
        ("+".join(["1"] * 300), "nested more than 100 deep"),
        ("1" * 1001, "longer than 1000"),
    ],
)
async def test_the_calculator_refuses_quickly(expression, words):
    """Whatever is not arithmetic, and whatever would take a machine down: a clear error, at once."""
    started_s = time.monotonic()
    calculator = builtin_tools(ManualClock())[1]
    outcome = await outcome_of(calculator, json.dumps({"expression": expression}))
    assert time.monotonic() - started_s < 1
    assert (outcome.code, outcome.is_error) == ("tool_failed", True)
    assert any(word in outcome.content for word in words.split("|"))


async def test_the_other_built_in_tools():
    """The echo gives its text back; the timestamp tells the engine's time."""
    tools = Tools(builtin_tools(ManualClock(1_800_000_000_000_001)))
    assert tools.names() == ("echo", "calculator", "timestamp")
    runner = ToolRunner(tools, ToolLimits(), SystemClock())
    text = "say ümläut \U0001f600"
    assert (await runner.call(a_call("echo", json.dumps({"text": text})), tools.names())).content == text
    assert (await runner.call(a_call("timestamp"), tools.names())).content == "2027-01-15T08:00:00.000001Z"
    assert (await runner.call(a_call("timestamp", '{"zone": "x"}'), tools.names())).code == "invalid_arguments"


# --- the registry -----------------------------------------------------------------------------------------------------


def named(name, **parameters):
    made = returning("x")
    made.name = name
    made.parameters = {"type": "object", **parameters}
    return made


def test_a_name_is_taken_once():
    """Two tools of one name could not be told apart."""
    tools = Tools([named("a")])
    with pytest.raises(ToolError, match="two tools named a"):
        tools.add(named("a"))
    assert tools.names() == ("a",)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ä", "a" * 65, "a\n", "/etc"])
def test_an_ill_formed_name_is_refused(name):
    """Vendors would refuse the whole request."""
    with pytest.raises(ToolError, match="is not a valid name of a tool"):
        Tools([named(name)])


@pytest.mark.parametrize("value", [object(), "\ud800", {1j: 2}])
def test_a_schema_without_a_json_form_is_refused(value):
    """It could neither be sent nor kept."""
    with pytest.raises(ToolError, match="has no JSON form"):
        Tools([named("a", default=value)])


def test_the_allow_list_and_the_wish_are_both_kept():
    """In the order of registration; an allow-list may know tools that are gone, a wish may not."""
    tools = Tools([named("c"), named("a"), named("b")])
    assert tools.allowed(None, None) == ("c", "a", "b")
    assert tools.allowed(["b", "c"], None) == ("c", "b")
    assert tools.allowed(None, ["a", "c", "gone"]) == ("c", "a")
    assert tools.allowed(["a"], ["a", "c"]) == ("a",)
    assert tools.allowed([], None) == tools.allowed(None, []) == ()
    for wish in (["gone"], ["a", "b"]):
        with pytest.raises(Invalid) as caught:
            tools.allowed(wish, ["a", "c", "gone"])
        assert (caught.value.code, caught.value.extra["available"]) == ("unknown_tool", ["c", "a"])


def test_schemas_are_kept_to_the_letter():
    """What is read again is what was sent, in the same order of keys, so that the same request can be derived; what is
    kept tells sets and orders apart.
    """
    schema = {"properties": {"z": {"type": "number", "minimum": 1.0}, "a": {"type": "string", "ä": 2**70}}}
    tools = Tools([named("one", **schema), named("two")])
    sent = tools.schemas(["two", "one", "gone"])
    assert [each.name for each in sent] == ["one", "two"]
    kept = read_schemas(write_schemas(sent))
    assert json.dumps(msgspec.to_builtins(kept)) == json.dumps(msgspec.to_builtins(sent))
    assert write_schemas(sent) == write_schemas(kept) != write_schemas(sent[:1])
    assert write_schemas(sent) != write_schemas(sent[::-1])


def test_the_digest_is_the_same_for_ever():
    """It stands in the log."""
    schema = ToolSchema("echo", "Gives ä.", {"type": "object", "properties": {"text": {"type": "string"}}})
    written = (
        '[{"name":"echo","description":"Gives ä.",'
        '"parameters":{"type":"object","properties":{"text":{"type":"string"}}}}]'
    )
    assert write_schemas([schema]) == written.encode()
    assert digest_of(write_schemas([schema])) == hashlib.sha256(written.encode()).digest()


def test_a_strict_tool_says_so_in_the_record():
    """Where it was given; all others are written as they always were."""
    parameters = {"type": "object"}
    schemas = (ToolSchema("a", "", parameters), ToolSchema("b", "", parameters, True), ToolSchema("c", "", {}, False))
    written = write_schemas(schemas)
    assert written == (
        b'[{"name":"a","description":"","parameters":{"type":"object"}},'
        b'{"name":"b","description":"","parameters":{"type":"object"},"strict":true},'
        b'{"name":"c","description":"","parameters":{},"strict":false}]'
    )
    assert read_schemas(written) == schemas


def test_a_tool_that_changes_its_schema_is_sent_as_registered():
    """What was registered is what models are told, until it is registered anew."""
    made = named("a", properties={"x": {}})
    tools = Tools([made])
    made.parameters["properties"]["y"] = {}
    assert tools.schemas(["a"])[0].parameters["properties"] == {"x": {}}


# --- what a call can come to ------------------------------------------------------------------------------------------


async def test_an_unknown_tool_is_told_with_what_there_is():
    """And only with what may be used."""
    tools = Tools([named("a"), named("b")])
    runner = ToolRunner(tools, ToolLimits(), SystemClock())
    outcome = await runner.call(a_call("nope"), ["b"])
    assert (outcome.code, outcome.is_error) == ("unknown_tool", True)
    assert outcome.content == "There is no tool 'nope' here. There are: b."
    assert (await runner.call(a_call("nope"), [])).content == "There is no tool 'nope' here. There are no tools."
    call = msgspec.structs.replace(a_call("nope"), others=("weather",))
    assert (await runner.call(call, [])).content == "There is no tool 'nope' here. There are: weather."
    assert (await runner.call(call, ["b"])).content == "There is no tool 'nope' here. There are: b, weather."
    assert len((await runner.call(a_call("x" * 100_000), ["b"])).content) < 200


async def test_the_allow_list_holds_when_it_runs():
    """Also for a model that calls what it was never shown; it does not learn that it exists."""
    ran = []

    @tool
    def secret() -> None:
        """Secret."""
        ran.append(1)

    outcome = await outcome_of(secret, allowed=[])
    assert (outcome.code, outcome.is_error, ran) == ("tool_not_allowed", True, [])
    assert outcome.content == "There is no tool 'secret' here. There are no tools."


async def test_what_needs_a_yes_does_not_run_without():
    """Arguments are looked at before anybody is asked."""
    ran = []

    @tool(approval=True)
    def drop(table: str) -> str:
        """Drops."""
        ran.append(table)
        return "dropped"

    runner = ToolRunner(Tools([drop]), ToolLimits(), SystemClock())
    assert runner.prepare(a_call("drop", "{}"), ["drop"]).code == "invalid_arguments"
    assert isinstance(runner.prepare(a_call("drop", '{"table": "x"}'), ["drop"]), ReadyCall)
    assert (await outcome_of(drop, '{"table": "x"}')).code == "tool_not_approved"
    assert ran == []
    assert (await outcome_of(drop, '{"table": "x"}', approved=True)).content == "dropped"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        ("", ""),
        (None, "null"),
        (5, "5"),
        (2.5, "2.5"),
        (True, "true"),
        ([1, "ä"], '[1,"ä"]'),
        ({"a": {"b": None}}, '{"a":{"b":null}}'),
        (Place("Ulm"), '{"city":"Ulm","country":null}'),
        (Span(2), '{"days":2,"parts":[]}'),
        (Unit.KELVIN, '"kelvin"'),
        ({"half": "\ud83d"}, '{"half": "\ufffd"}'),
        ((), "[]"),
    ],
)
async def test_what_a_function_returns_becomes_text(value, text):
    """Text as it is, anything else that JSON can say as JSON."""
    outcome = await outcome_of(returning(value))
    assert (outcome.code, outcome.content, outcome.output_bytes) == ("completed", text, len(text.encode()))


@pytest.mark.parametrize("value", [object(), b"bytes", {1j: 2}, [object()], sys, print, lambda: 1])
async def test_what_has_no_form_is_an_error(value):
    """The model is told the type, and no more."""
    outcome = await outcome_of(returning(value))
    assert (outcome.code, outcome.is_error) == ("tool_failed", True)
    assert "which is neither text nor JSON" in outcome.content
    assert "0x" not in outcome.content


@pytest.mark.parametrize("content", [5, None, b"x", ["text"], (5,), {"a": 1}])
async def test_an_output_that_is_no_content_is_an_error(content):
    """Whoever writes a tool by hand can get it wrong."""
    outcome = await outcome_of(returning(ToolOutput(content)))
    assert (outcome.code, outcome.content) == ("tool_failed", "give failed: it returned neither text nor images.")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("/etc/passwd is missing"), "fall failed with ValueError."),
        (ToolError("there is no such town"), "fall failed: there is no such town"),
        (KeyError("x"), "fall failed with KeyError."),
        (SystemExit(1), "fall failed with RuntimeError."),
        (GeneratorExit(), "fall failed with RuntimeError."),
        (StopAsyncIteration(), "fall failed with"),
        (RecursionError(), "fall failed with RecursionError."),
        (asyncio.CancelledError(), "fall failed: it was cancelled from within."),
        (TimeoutError(), "fall failed with TimeoutError."),
        (ExceptionGroup("many", [OSError("x")]), "fall failed with ExceptionGroup."),
    ],
)
async def test_a_tool_that_raises_has_failed(error, words):
    """Only what is said for the model to read is told; nothing ends the server."""
    outcome = await outcome_of(raising(error))
    assert (outcome.code, outcome.is_error) == ("tool_failed", True)
    assert outcome.content.startswith(words)


@pytest.mark.parametrize("error", [ValueError("/etc/passwd"), StopIteration(), SystemExit(1), KeyboardInterrupt()])
async def test_a_thread_that_raises_has_failed(error):
    """Whatever it is; also what no future could hold."""

    @tool
    def fall() -> None:
        """Falls."""
        raise error

    outcome = await outcome_of(fall)
    assert (outcome.code, outcome.is_error) == ("tool_failed", True)
    assert "passwd" not in outcome.content


async def test_a_failure_stands_in_the_log(caplog):
    """With its traceback, for whoever keeps the server."""
    await outcome_of(raising(ValueError("the reason")))
    assert "the reason" in caplog.text


async def test_a_check_that_raises_is_a_failure():
    """A tool's own code may be wrong there too."""
    made = returning("x")
    made.check = lambda given: 1 / 0
    outcome = await outcome_of(made)
    assert (outcome.code, outcome.content) == ("tool_failed", "give failed with ZeroDivisionError.")


async def test_a_tool_can_say_that_it_failed():
    """Its own words, as they are."""
    outcome = await outcome_of(returning(ToolOutput("no such town", is_error=True)))
    assert (outcome.code, outcome.content, outcome.is_error) == ("tool_failed", "no such town", True)


async def test_one_that_will_not_be_cancelled_is_left_behind(monkeypatch):
    """A tool that swallows its cancellation does not hold up its turn."""
    monkeypatch.setattr("manent.engine.tools.runner.GRACE_S", 0.05)
    over = asyncio.Event()

    @tool(timeout_s=0.05)
    async def stubborn() -> str:
        """Stubborn."""
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                continue
        raise ValueError("far too late")

    outcome = await asyncio.wait_for(outcome_of(stubborn), 5)
    assert (outcome.code, outcome.content) == (
        "tool_timed_out",
        "stubborn did not end within 0.05 s and was cancelled.",
    )
    over.set()
    await asyncio.sleep(0.05)


async def test_its_own_limits_come_before_the_common_ones():
    """Time and size."""

    @tool(timeout_s=5, max_output_bytes=3)
    async def slow() -> str:
        """Slow."""
        await asyncio.sleep(0.1)
        return "abcdef"

    outcome = await outcome_of(slow, limits=ToolLimits(timeout_s=0.01, max_output_bytes=100))
    assert (outcome.code, outcome.content[:4]) == ("output_too_large", "abc\n")


async def test_time_is_measured():
    """In milliseconds, by the engine's clock."""
    clock = ManualClock()

    @tool
    async def wait() -> None:
        """Waits."""
        clock.monotonic += 1.5

    outcome = await ToolRunner(Tools([wait]), ToolLimits(), clock).call(a_call("wait"), ["wait"])
    assert outcome.duration_ms == 1500


async def test_ten_megabytes_are_cut():
    """At the limit, between characters, with a note of the whole size; what came is no error."""
    text = "ä" * (5 << 20)
    outcome = await outcome_of(returning(text), limits=ToolLimits(max_output_bytes=1001))
    assert (outcome.code, outcome.is_error, outcome.output_bytes) == ("output_too_large", False, 10 << 20)
    kept, _, note = outcome.content.partition("\n")
    assert kept == "ä" * 500
    assert note == "[cut here: the whole output is 10485760 bytes, more than may be given back]"


async def test_blocks_are_cut_at_the_first_that_does_not_fit():
    """Text is cut, an image is left out whole, and nothing comes after."""
    image = ImageBlock(Base64Source("image/png", PIXEL))
    content = (TextBlock("abc"), image, TextBlock("defgh"), TextBlock("x"))
    assert fit(content, 21)[:2] == (content, 21)
    note = TextBlock("[cut here: the whole output is 21 bytes, more than may be given back]")
    assert fit(content, 18) == ((TextBlock("abc"), image, TextBlock("def"), note), 21, True)
    assert fit(content, 14) == ((TextBlock("abc"), note), 21, True)
    assert fit(content, 0) == ((note,), 21, True)


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        (Base64Source("image/png", PIXEL), True),
        (Base64Source("image/tiff", PIXEL), False),
        (Base64Source("image/png", "no base64!"), False),
        (Base64Source("image/png", "iVBORw0KGg"), False),
        (Base64Source("image/png", ""), False),
        (Base64Source("image/png", "\ud800"), False),
        (UrlSource("https://example.org/a.png"), True),
        (UrlSource("file:///etc/passwd"), False),
        (UrlSource("https://example.org/\0"), False),
    ],
)
async def test_an_image_that_no_vendor_takes_is_mentioned(source, kept):
    """Sent on, it would have every later request of the session refused."""
    outcome = await outcome_of(returning(ImageBlock(source)))
    assert (outcome.content == (ImageBlock(source),)) is kept
    assert kept or isinstance(outcome.content[0], TextBlock)


async def test_empty_blocks_are_left_out():
    """Vendors refuse an empty text block."""
    assert (await outcome_of(returning((TextBlock(""), TextBlock("a"))))).content == (TextBlock("a"),)
    assert (await outcome_of(returning((TextBlock(""),)))).content == ""


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ("a\0b", "a\ufffdb"),
        ("\ud83d", "\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ude00\ud83d x", "\ufffd\ufffd x"),
        ("plain ä \U0001f600", "plain ä \U0001f600"),
    ],
)
async def test_what_cannot_be_recorded_is_repaired(text, repaired):
    """NUL and half characters become U+FFFD, in text and in blocks; halves that belong together are joined."""
    assert (await outcome_of(returning(text))).content == repaired
    assert (await outcome_of(returning((TextBlock(text),)))).content == (TextBlock(repaired),)
    assert (await outcome_of(raising(ToolError(text)))).content == f"fall failed: {repaired}"


@given(st.text(), st.integers(0, 40))
def test_any_text_comes_out_fit(text, most_bytes):
    """Whatever it was: recordable, and within its limit but for the note."""
    content, size, is_cut = fit(text, most_bytes)
    assert "\0" not in content
    assert size == len(repair(text).encode())
    assert is_cut is (size > most_bytes)
    kept = content.rpartition("\n[cut here")[0] if is_cut else content
    assert len(kept.encode()) <= most_bytes
    assert repair(text).startswith(kept)


# --- many at once -----------------------------------------------------------------------------------------------------


async def test_cancelling_who_waits_cancels_the_calls():
    """None goes on behind one's back."""
    ended = []

    @tool
    async def work() -> None:
        """Works."""
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    runner = ToolRunner(Tools([work]), ToolLimits(), SystemClock())
    task = asyncio.gather(*(runner.call(a_call("work"), ["work"]) for _ in range(3)))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [1, 1, 1]


async def test_threads_are_bounded():
    """Never more at once than allowed, and a thread does not block the loop."""
    lock, running, most = threading.Lock(), 0, 0

    @tool
    def work() -> None:
        """Works."""
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.03)
        with lock:
            running -= 1

    runner = ToolRunner(Tools([work]), ToolLimits(max_threads=2), SystemClock())
    task = asyncio.gather(*(runner.call(a_call("work"), ["work"]) for _ in range(8)))
    ticks = 0
    while not task.done():
        ticks += 1
        await asyncio.sleep(0.005)
    assert {outcome.code for outcome in task.result()} == {"completed"}
    assert (most, ticks > 5) == (2, True)


async def test_threads_that_hang_keep_their_places():
    """Further calls run into their own time limit; when a thread comes back, its place is free again."""
    over = threading.Event()

    @tool
    def hang() -> str:
        """Hangs."""
        over.wait(30)
        return "back"

    runner = ToolRunner(Tools([hang]), ToolLimits(max_threads=1, timeout_s=0.1), SystemClock())
    for _ in range(3):
        assert (await runner.call(a_call("hang"), ["hang"])).code == "tool_timed_out"
    over.set()
    await asyncio.sleep(0.1)
    assert (await runner.call(a_call("hang"), ["hang"])).content == "back"


async def test_a_machine_without_threads_fails_the_call(monkeypatch):
    """And the place is given back."""

    def no_more(self):
        raise RuntimeError("can't start new thread")

    threads = DaemonThreads(1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="can't start"):
                await threads.run(lambda: 1)
    assert await asyncio.wait_for(threads.run(lambda: 1), 5) == 1


def test_a_thread_that_hangs_does_not_keep_the_process():
    """The server can end."""
    script = """
import asyncio, time
from manent.engine.tools.runner import DaemonThreads

async def main():
    try:
        await asyncio.wait_for(DaemonThreads(1).run(lambda: time.sleep(60)), 0.1)
    except TimeoutError:
        print("given up")

asyncio.run(main())
"""
    started_s = time.monotonic()
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False)
    assert (run.stdout, run.stderr, run.returncode) == ("given up\n", "", 0)
    assert time.monotonic() - started_s < 30


def test_an_outcome_is_a_value():
    """It can be kept and compared."""
    assert ToolOutcome("completed", "x", is_error=False) == ToolOutcome("completed", "x", is_error=False)
