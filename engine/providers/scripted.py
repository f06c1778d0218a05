"""The scripted provider: it plays answers, tool calls, pauses and faults from a JSON file. A fake, and a product.

The file (setting ``MANENT_SCRIPT``) maps names to answers; ``scripted/NAME`` is then a model:

    {"models": {"weather": [
        {"match": "rain", "steps": [
            {"thinking": "They ask about rain."},
            {"text": "Let me look.", "chunk_chars": 5, "every_ms": 20},
            {"tool": {"id": "call_1", "name": "forecast", "input": {"city": "Rome"}}}]},
        {"match": "rain", "steps": [{"text": "Dry all week."}, {"usage": {"input_tokens": 9, "output_tokens": 4}}]},
        {"steps": [{"text": "Hello."}, {"pause_ms": 500}, {"text": " Still here."}]},
        {"steps": [{"text": "I brea"}, {"truncate": true}]}]}}

**The answer** depends on the request alone, so it is the same after a restart. If the last user message contains the
``match`` of some answers, those are played one after the other, round by round, beginning again with each user message.
Otherwise the answers without ``match`` are played, one for each assistant message in the request. The last one repeats.

**A step** has exactly one of these keys:

* ``text``, ``thinking``: more of such a block, also after a pause; another kind ends the block. ``tool``: a call, as
  ``{id, name, input}``, or with ``input_text`` for input that is not JSON. All three may come in pieces of
  ``chunk_chars`` characters, one every ``every_ms``.
* ``vendor``: an object with a ``type``, given on as a vendor's own block: the form of the block under way with
  ``"beside": true``, else a block of its own.
* ``usage``: the fields of a usage. ``pause_ms``: nothing comes for so long.
* ``end``: the answer is over, for this reason. Without it: ``tool_use`` after a call, else ``end_turn``.
* ``fail``: ``{code, detail, status, vendor_code, retry_after_s}``, raised; ``truncate``: the stream breaks off;
  ``hang``: nothing comes any more. Nothing may follow one of these or ``end``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..errors import (
    Invalid,
    ProviderError,
    ProviderMalformed,
    ProviderRejected,
    ProviderTimedOut,
    ProviderTooLarge,
    ProviderTruncated,
    ProviderUnavailable,
)
from ..events.usage import Usage
from .base import (
    BlockStarted,
    BlockStopped,
    BlockType,
    Chunk,
    Delta,
    Ended,
    ModelInfo,
    Renderer,
    UsageReported,
    VendorBlock,
)
from .echo import CAPABILITIES, PlainRequest, in_pieces, read_plain, render_plain

RENDERER = "scripted/1"
RENDERERS: Mapping[str, Renderer] = {RENDERER: render_plain}

_FAILURES = {
    kind.code: kind
    for kind in (
        ProviderUnavailable,
        ProviderRejected,
        ProviderMalformed,
        ProviderTooLarge,
        ProviderTimedOut,
        ProviderTruncated,
    )
}

Milliseconds = Annotated[int, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_.:-]{1,128}$")]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Structs in which a misspelt key is an error that names it."""


class ScriptedCall(_Strict, frozen=True):
    id: Name
    name: Name
    input: dict[str, Any] | None = None
    input_text: str | None = None

    @property
    def text(self) -> str:
        if self.input_text is not None:
            return self.input_text
        return msgspec.json.encode(self.input or {}).decode()


class Fail(_Strict, frozen=True):
    code: str
    detail: str = "the script says so"
    status: int | None = None
    vendor_code: str | None = None
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        if self.code not in _FAILURES:
            raise ValueError(f"`code` is one of {', '.join(_FAILURES)}")


class Reported(Usage, frozen=True, forbid_unknown_fields=True):
    """A usage in which a misspelt key is an error."""


class ScriptedStep(_Strict, frozen=True):
    """One thing that happens; see the module's text."""

    text: str | None = None
    thinking: str | None = None
    tool: ScriptedCall | None = None
    vendor: dict[str, Any] | None = None
    usage: Reported | None = None
    pause_ms: Milliseconds | None = None
    end: Name | None = None
    fail: Fail | None = None
    truncate: bool | None = None
    hang: bool | None = None

    chunk_chars: Annotated[int, msgspec.Meta(ge=1)] | None = None
    every_ms: Milliseconds = 0
    beside: bool = False

    def __post_init__(self) -> None:
        if sum(getattr(self, name) is not None for name in _ACTIONS) != 1:
            raise ValueError(f"a step has exactly one of {', '.join(_ACTIONS)}")
        if False in {self.truncate, self.hang}:
            raise ValueError("`truncate` and `hang` are true or absent")
        if self.vendor is not None and not isinstance(self.vendor.get("type"), str):
            raise ValueError("`vendor` has a `type`")

    @property
    def is_last(self) -> bool:
        return any(getattr(self, name) is not None for name in _LAST)

    @property
    def block(self) -> tuple[BlockType, str] | None:
        """The type of the block that it adds to, and the text."""
        if self.tool is not None:
            return "tool_use", self.tool.text
        if self.thinking is not None:
            return "thinking", self.thinking
        return ("text", self.text) if self.text is not None else None


_ACTIONS = ("text", "thinking", "tool", "vendor", "usage", "pause_ms", "end", "fail", "truncate", "hang")
_LAST = ("end", "fail", "truncate", "hang")


class ScriptedAnswer(_Strict, frozen=True):
    steps: tuple[ScriptedStep, ...]
    match: Annotated[str, msgspec.Meta(min_length=1)] | None = None

    def __post_init__(self) -> None:
        if any(step.is_last for step in self.steps[:-1]):
            raise ValueError(f"nothing may follow {', '.join(_LAST)}")
        for before, step in pairwise((None, *self.steps)):
            if step and step.beside and (before is None or before.block is None):
                raise ValueError("`beside` stands directly after text, thinking or a tool")


class Script(_Strict, frozen=True):
    models: dict[Name, Annotated[tuple[ScriptedAnswer, ...], msgspec.Meta(min_length=1)]]


def read_script(path: Path) -> Script:
    """The script in a file. Raises Invalid, which says where the script is wrong."""
    try:
        return parse_script(path.read_bytes())
    except OSError as error:
        raise Invalid("script", f"cannot be read: {error.__class__.__name__}") from None


def parse_script(data: bytes) -> Script:
    """Raises Invalid."""
    try:
        return msgspec.json.decode(data, type=Script)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("script", str(error)) from None


class ScriptedProvider:
    """Plays ``script``."""

    renderer = RENDERER
    renderers = RENDERERS

    def __init__(self, script: Script) -> None:
        self.name = "scripted"
        self._script = script

    def models(self) -> Sequence[ModelInfo]:
        return [_info(name) for name in self._script.models]

    def model(self, name: str) -> ModelInfo | None:
        return _info(name) if name in self._script.models else None

    def stream(self, request: bytes) -> AsyncGenerator[Chunk, None]:
        return self._play(request)

    async def _play(self, request: bytes) -> AsyncGenerator[Chunk, None]:
        asked = read_plain(request, self.name)
        answers = self._script.models.get(asked.model)
        if answers is None:
            raise ProviderRejected("scripted refused the request: its script has no such model", status=404)
        stage = _Stage()
        for step in choose(answers, asked).steps:
            for chunk in await stage.enter(step):
                yield chunk
            _, text = step.block or ("", "")
            async for piece in in_pieces(text, step.chunk_chars or max(1, len(text)), step.every_ms):
                yield Delta(stage.number, piece)
        for chunk in stage.leave():
            yield chunk

    async def aclose(self) -> None:
        """There is nothing to release."""


def _info(name: str) -> ModelInfo:
    return ModelInfo(name, family="echo", capabilities=(*CAPABILITIES, "tools", "thinking"))


def choose(answers: Sequence[ScriptedAnswer], asked: PlainRequest) -> ScriptedAnswer:
    """Choose the answer to a request; see the module's text. Pure."""
    roles = [message.role for message in asked.messages]
    matching = [answer for answer in answers if answer.match is not None and answer.match in asked.last_user_text]
    if matching:
        answers, since = matching, len(roles) - roles[::-1].index("user")
    else:
        answers, since = [answer for answer in answers if answer.match is None], 0
    if not answers:
        raise ProviderRejected("scripted refused the request: no answer of its script matches", status=400)
    return answers[min(roles[since:].count("assistant"), len(answers) - 1)]


class _Stage:
    """The state of an answer that is played: the number and type of the open block, and the stop reason."""

    def __init__(self) -> None:
        self.number = -1
        self._open: BlockType | None = None
        self._reason = "end_turn"

    async def enter(self, step: ScriptedStep) -> list[Chunk]:
        """The chunks of a step before its text; it also waits and fails here."""
        if step.pause_ms is not None:
            await asyncio.sleep(step.pause_ms / 1000)
        elif step.hang:
            await asyncio.Event().wait()
        elif step.truncate:
            raise ProviderTruncated("the stream of scripted ended without its end marker")
        elif step.fail is not None:
            raise _failure(step.fail)
        elif step.end is not None:
            self._reason = step.end
        elif step.usage is not None:
            usage = Usage(**msgspec.structs.asdict(step.usage))
            return [UsageReported(usage, msgspec.json.encode(usage))]
        elif step.vendor is not None:
            return self._vendor(step.vendor, beside=step.beside)
        elif step.block is not None:
            return self._begin(step.block[0], step.tool)
        return []

    def leave(self) -> list[Chunk]:
        return [*self._stop(), Ended(self._reason, self._reason)]

    def _begin(self, kind: BlockType, tool: ScriptedCall | None) -> list[Chunk]:
        if tool is None and kind == self._open:
            return []
        stopped = self._stop()
        self.number += 1
        self._open = kind
        if tool is None:
            return [*stopped, BlockStarted(self.number, kind)]
        self._reason = "tool_use"
        return [*stopped, BlockStarted(self.number, kind, tool.id, tool.name)]

    def _vendor(self, block: dict[str, Any], *, beside: bool) -> list[Chunk]:
        stopped = [] if beside else self._stop()
        self.number += not beside
        return [*stopped, VendorBlock(self.number, block["type"], msgspec.json.encode(block))]

    def _stop(self) -> list[Chunk]:
        if self._open is None:
            return []
        self._open = None
        return [BlockStopped(self.number)]


def _failure(fail: Fail) -> ProviderError:
    return _FAILURES[fail.code](
        f"scripted failed: {fail.detail}",
        status=fail.status,
        vendor_code=fail.vendor_code,
        retry_after_s=fail.retry_after_s,
    )
