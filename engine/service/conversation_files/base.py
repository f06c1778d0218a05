"""The form of a conversation file, and its bounds.

    system: You are brief.             # optional, like all but `turns`
    model: scripted                    # or any model; `scripted`: the answers below; absent: scripted, or the default
    tools:                             # what the model may call in every turn
      - calculator                     # a tool that is registered, by its name
      - name: weather                  # a scripted one: `description` and `parameters` (a JSON Schema) are optional
        when:                          # the first that fits the arguments, or a part of them
          - {with: {city: Rome}, returns: Rain all week.}
          - {error: There is no such town.}
      - {name: dice, results: [4, 2, {error: It rolled off the table.}]}   # call by call
      - {name: door, returns: It is open.}                                 # every call; or `error`
    turns:
      - user: Will it rain in Rome?
        answers:                       # what the scripted model says, round by round
          - tool: {name: weather, input: {city: Rome}}
          - Take an umbrella.
        expect:
          contains: umbrella
          tool_called: {name: weather, with: {city: Rome}}
    faults:                            # what fails, and when: without `attempt`, every attempt of the turn
      - {turn: 1, attempt: 1, fail: provider_unavailable}

**An answer** is a text, a step, or a list of both. Steps are those of the scripted model (``text thinking tool usage
pause_ms end fail truncate hang``, with ``chunk_chars`` and ``every_ms``); ``fail`` may be a code alone, and a ``tool``
needs no ``id``. A model that asks once more than there are answers is refused.

**Expectations**: ``equals`` (a list: one of them), ``contains`` and ``matches`` (a regular expression found in the
text; a list: all), ``json`` (JSON path -> value, of the text as JSON), ``tool_called`` (a name, or ``name`` and
``with``: arguments or a part of them; a list: all), ``stop_reason`` (a list: one of them), ``max_tokens`` (output
tokens of the answer at most), ``error`` (the code with which the turn fails; a list: one of them). A turn that fails
without such an expectation is a failure.

**A fault** has one of ``fail``, ``truncate``, ``hang`` and ``pause_ms``. ``after_chars``: so many characters of the
answer come first (of thinking and calls, too), or all if it is shorter. One that does not happen is a failure, too.

Attempts are counted from 1 along the turn, through all its rounds. Nothing here is null: leave out what is not meant.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ...errors import Invalid
from ...providers.scripted import Fail, Milliseconds, Name, Reported, ScriptedCall, ScriptedStep

MAX_FILE_BYTES = 1 << 20
MAX_TURNS = 1000
MAX_DEPTH = 50
MAX_NODES = 100_000
"""Most values in a file; what an alias stands for counts each time."""

SCRIPTED = "scripted"
"""The model of the file's own answers."""

Words = Annotated[str, Meta(min_length=1)]
Several = Annotated[tuple[Words, ...], Meta(min_length=1)]
Place = tuple[int, int]
"""Line and column, from 1."""


class InvalidConversation(Invalid):
    """A conversation file is wrong; ``file``, ``line`` and ``column`` say where."""

    code = "invalid_conversation"

    def __init__(self, file: str, place: Place, detail: str, **extra: object) -> None:
        line, column = place
        super().__init__(f"{file}:{line}:{column}", detail, file=file, line=line, column=column)
        self.extra |= extra


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Structs in which a misspelt key is an error."""


class CalledTool(_Strict, frozen=True):
    """A call that is expected; ``with``: arguments, or a part of them."""

    name: Words
    arguments: dict[str, Any] = msgspec.field(name="with", default_factory=dict)


class Expectations(_Strict, frozen=True):
    equals: str | Annotated[tuple[str, ...], Meta(min_length=1)] | UnsetType = UNSET
    contains: Words | Several | UnsetType = UNSET
    matches: Words | Several | UnsetType = UNSET
    json: Annotated[dict[str, Any], Meta(min_length=1)] | UnsetType = UNSET
    tool_called: Words | CalledTool | Annotated[tuple[Words | CalledTool, ...], Meta(min_length=1)] | UnsetType = UNSET
    stop_reason: Words | Several | UnsetType = UNSET
    max_tokens: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    error: Words | Several | UnsetType = UNSET


class Call(_Strict, frozen=True):
    """A call that the scripted model makes."""

    name: Name
    input: dict[str, Any] | UnsetType = UNSET
    input_text: str | UnsetType = UNSET
    id: Name | UnsetType = UNSET


class Step(_Strict, frozen=True):
    """A step of the scripted model, in its short form."""

    text: str | UnsetType = UNSET
    thinking: str | UnsetType = UNSET
    tool: Call | UnsetType = UNSET
    usage: Reported | UnsetType = UNSET
    pause_ms: Milliseconds | UnsetType = UNSET
    end: Name | UnsetType = UNSET
    fail: str | Fail | UnsetType = UNSET
    truncate: bool | UnsetType = UNSET
    hang: bool | UnsetType = UNSET

    chunk_chars: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    every_ms: Milliseconds | UnsetType = UNSET

    def __post_init__(self) -> None:
        self.scripted("call")

    def scripted(self, call_id: str) -> ScriptedStep:
        """The step in full; ``call_id`` is that of a call that has none. Raises ValueError for what is no step."""
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not UNSET}
        if isinstance(self.fail, str):
            given["fail"] = Fail(self.fail)
        if isinstance(self.tool, Call):
            call = {name: value for name, value in msgspec.structs.asdict(self.tool).items() if value is not UNSET}
            given["tool"] = ScriptedCall(**{"id": call_id} | call)
        return ScriptedStep(**given)


Answer = str | Step | Annotated[tuple[str | Step, ...], Meta(min_length=1)]


class TurnSpec(_Strict, frozen=True):
    user: Words
    answers: Annotated[tuple[Answer, ...], Meta(min_length=1)] | UnsetType = UNSET
    expect: Expectations = Expectations()


class Outcome(_Strict, frozen=True):
    """What a call of a scripted tool gives: a result, or an error that the model reads."""

    returns: Any = UNSET
    error: Words | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.returns is UNSET) == (self.error is UNSET):
            raise ValueError("needs `returns` or `error`, and not both")


class Case(Outcome, frozen=True):
    """What a call with these arguments gives; without ``with``: any call."""

    arguments: dict[str, Any] = msgspec.field(name="with", default_factory=dict)


class ToolSpec(_Strict, frozen=True):
    """A scripted tool: it gives the same each time (``returns``, ``error``), or ``results`` in order, or by its
    arguments (``when``).
    """

    name: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
    description: str = ""
    parameters: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "object", "properties": {}})
    returns: Any = UNSET
    error: Words | UnsetType = UNSET
    results: Annotated[tuple[Outcome | str | int | float | bool | list[Any], ...], Meta(min_length=1)] | UnsetType = (
        UNSET
    )
    when: Annotated[tuple[Case, ...], Meta(min_length=1)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if sum(getattr(self, way) is not UNSET for way in ("returns", "error", "results", "when")) != 1:
            raise ValueError("a tool has one of `returns`, `error`, `results` and `when`")


class Fault(_Strict, frozen=True):
    """A failure of the model that is meant."""

    turn: Annotated[int, Meta(ge=1)]
    attempt: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    after_chars: Annotated[int, Meta(ge=0)] = 0
    fail: str | Fail | UnsetType = UNSET
    truncate: bool | UnsetType = UNSET
    hang: bool | UnsetType = UNSET
    pause_ms: Milliseconds | UnsetType = UNSET

    def __post_init__(self) -> None:
        if sum(getattr(self, way) is not UNSET for way in ("fail", "truncate", "hang", "pause_ms")) != 1:
            raise ValueError("a fault has one of `fail`, `truncate`, `hang` and `pause_ms`")
        _ = self.step

    @property
    def step(self) -> ScriptedStep:
        """What the scripted model would do."""
        step = Step(fail=self.fail, truncate=self.truncate, hang=self.hang, pause_ms=self.pause_ms)
        return step.scripted("call")


class ConversationSpec(_Strict, frozen=True):
    """All that stands in a file."""

    turns: Annotated[tuple[TurnSpec, ...], Meta(min_length=1, max_length=MAX_TURNS)]
    system: Words | UnsetType = UNSET
    model: Words | UnsetType = UNSET
    tools: tuple[Annotated[str, Meta(min_length=1)] | ToolSpec, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def tool_names(self) -> tuple[str, ...]:
        return tuple(tool if isinstance(tool, str) else tool.name for tool in self.tools)

    @property
    def has_answers(self) -> bool:
        return any(turn.answers is not UNSET for turn in self.turns)


def listed(value: Any) -> tuple[Any, ...]:
    """One value or several, as several; none for what is left out."""
    if value is UNSET:
        return ()
    return value if isinstance(value, tuple) else (value,)
