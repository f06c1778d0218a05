"""Streams of the Vercel AI SDK's UI messages: the frames of a turn as the parts of one message.

A turn makes one message, and each answer in it is a step. A turn that goes on from the results of a client's tools goes
on with the message before it. The name of a message does not depend on who reads it, and when: a client that comes back
is told the same from the beginning on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from ...engine import Frame, ImageBlock, Message, TextBlock, ToolResultBlock, ToolUseBlock, Usage
from ..http.errors import Problem
from .ai_sdk_forms import approval_id
from .ai_sdk_parts import text_of_result, told_output
from .common import TurnTold, failed_in_stream, turn_told
from .frame_data import Delta, Started, read_delta, read_start

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool-calls",
    "refusal": "content-filter",
    "content_filter": "content-filter",
}
"""Why an answer ended, in the SDK's words; any other reason is told as ``other``, and stands on record."""

HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
PAUSED = "turn.paused"
WAITS = "stream.waits"
"""A frame that only this file makes: the stream ends, because its turn waits for a person."""

DONE = b"data: [DONE]\n\n"

_TEXTS = {"text": "text", "thinking": "reasoning"}
_encode = msgspec.json.Encoder().encode


class _Awaited(msgspec.Struct, frozen=True):
    """A call that a person must decide on."""

    tool_use_id: str


class _Paused(msgspec.Struct, frozen=True):
    """The data of a ``turn.paused`` frame."""

    pending_approvals: tuple[_Awaited, ...]


class Decision(msgspec.Struct, frozen=True):
    """The data of a frame that tells of a decision."""

    tool_use_id: str | None
    approve: bool
    reason: str | None


class _Returned(msgspec.Struct, frozen=True):
    """The data of a ``tool.returned`` frame."""

    tool_use_id: str | None
    outcome: str


class _Url(msgspec.Struct, frozen=True):
    url: str | None = None
    title: str | None = None


class _Source(msgspec.Struct, frozen=True):
    """What a vendor cites: OpenAI's forms have it in a field of its own or not, Anthropic's is flat."""

    url: str | None = None
    title: str | None = None
    url_citation: _Url | None = None


class _Cited(msgspec.Struct, frozen=True):
    """A vendor's form of a text, as far as it tells of sources."""

    annotations: tuple[_Source, ...] | None = None
    citations: tuple[_Source, ...] | None = None


_read_paused = msgspec.json.Decoder(_Paused).decode
read_decision = msgspec.json.Decoder(Decision).decode
_read_returned = msgspec.json.Decoder(_Returned).decode
_read_message = msgspec.json.Decoder(Message).decode
_read_cited = msgspec.json.Decoder(_Cited).decode


async def up_to_a_pause(batches: AsyncGenerator[list[Frame], None]) -> AsyncGenerator[list[Frame], None]:
    """Frames with one more where they end because their turn waits for a person."""
    last = None
    try:
        async for batch in batches:
            last = batch[-1] if batch else last
            yield batch
        if last is not None and last.type == PAUSED:
            yield [Frame(last.number, WAITS, last.data)]
    finally:
        await batches.aclose()


class Parts:
    """Encodes the frames of one turn as the parts of a message. ``message``: its name; ``after``: nothing is told of
    what comes up to the frame of this number, for the client has it.
    """

    def __init__(self, message: str, *, after: int = 0) -> None:
        self._message = message
        self._after = after
        self._begun = False
        self._turn = ""
        self._step: UUID | None = None
        self._steps = 0
        self._sources = 0
        self._open: tuple[str, str] | None = None
        self._calls: dict[int, str] = {}
        self._names: dict[str, str] = {}
        self._outcomes: dict[str | None, str] = {}

    def encode(self, frame: Frame) -> bytes:
        """The parts of a frame. The first is told of in any case: it begins the message."""
        told = self._told(frame)
        return told if frame.number > self._after or frame.type == "turn.started" else b""

    def failed(self, problem: Problem) -> bytes:
        """An error in the stream, after which there is no more."""
        return _part("error", errorText=problem.detail) + DONE

    def _told(self, frame: Frame) -> bytes:
        match frame.type:
            case "delta":
                return self._delta(read_delta(frame.data))
            case "block.started":
                return self._block(read_start(frame.data))
            case "message.appended":
                return self._appended(_read_message(frame.data))
            case "tool.returned":
                returned = _read_returned(frame.data)
                self._outcomes[returned.tool_use_id] = returned.outcome
            case "tool.approved" | "tool.refused":
                return self._decided(read_decision(frame.data))
            case "turn.started":
                return self._start(turn_told(frame))
            case "turn.paused":
                return self._asks(_read_paused(frame.data))
            case _:
                return self._ended(frame)
        return b""

    def _ended(self, frame: Frame) -> bytes:
        match frame.type:
            case "stream.waits":
                return self._finish(turn_told(frame), "tool-calls")
            case "turn.completed":
                told = turn_told(frame)
                return self._finish(told, FINISH.get(told.stop_reason or "", "other"))
            case "turn.cancelled":
                return self._close() + _part("abort", reason="the turn was cancelled") + DONE
            case "turn.failed" | "turn.interrupted":
                return self.failed(failed_in_stream(turn_told(frame)))
        return b""

    def _start(self, turn: TurnTold) -> bytes:
        self._turn = turn.id.hex
        if self._begun:  # a later turn goes on with the message: it is the one that can be stopped
            return _part("message-metadata", messageMetadata=_metadata(turn))
        self._begun = True
        return _part("start", messageId=self._message, messageMetadata=_metadata(turn))

    # --- answers ------------------------------------------------------------------------------------------------------

    def _block(self, block: Started) -> bytes:
        told = self._close() + self._in_step(block.message_id)
        if block.type == "tool_use":
            call = self._calls[block.block] = block.id or ""
            self._names[call] = block.name or ""
            return told + _part("tool-input-start", toolCallId=call, toolName=block.name or "")
        kind = _TEXTS.get(block.type)
        if kind is None:
            return told
        self._open = kind, f"{kind}-{self._steps}-{block.block}"
        return told + _part(f"{kind}-start", id=self._open[1])

    def _in_step(self, message: UUID) -> bytes:
        if message == self._step:
            return b""
        before = b"" if self._step is None else _part("finish-step")
        self._step, self._calls = message, {}
        self._steps += 1
        return before + _part("start-step")

    def _delta(self, delta: Delta) -> bytes:
        if delta.type == "tool_input":
            return _part("tool-input-delta", toolCallId=self._calls[delta.block], inputTextDelta=delta.text)
        if self._open is None:
            return b""
        kind, name = self._open
        return b'data: {"type":"%b-delta","id":"%b","delta":%b}\n\n' % (
            kind.encode(),
            name.encode(),
            _encode(delta.text),
        )

    def _close(self) -> bytes:
        """The end of the text that is being told."""
        if self._open is None:
            return b""
        kind, name = self._open
        self._open = None
        return _part(f"{kind}-end", id=name)

    def _appended(self, message: Message) -> bytes:
        if message.role == "tool":
            return b"".join(self._returned(block) for block in message.blocks() if isinstance(block, ToolResultBlock))
        told = [self._close()]
        for block in message.blocks():
            if isinstance(block, ToolUseBlock) and message.complete:
                told.append(_called(block))
            elif isinstance(block, TextBlock):
                told.extend(self._cited(block))
            elif isinstance(block, ImageBlock):
                told.append(_file(block))
        return b"".join(told)

    def _cited(self, block: TextBlock) -> Iterator[bytes]:
        for source in _sources(block):
            self._sources += 1
            titled = {} if source.title is None else {"title": source.title}
            yield _part("source-url", sourceId=f"source-{self._sources}", url=source.url, **titled)

    # --- calls --------------------------------------------------------------------------------------------------------

    def _asks(self, paused: _Paused) -> bytes:
        return b"".join(
            _part("tool-approval-request", approvalId=self._approval(each.tool_use_id), toolCallId=each.tool_use_id)
            for each in paused.pending_approvals
        )

    def _decided(self, decision: Decision) -> bytes:
        if decision.tool_use_id is None:
            return b""
        reason = {} if decision.reason is None else {"reason": decision.reason}
        name = self._approval(decision.tool_use_id)
        return _part("tool-approval-response", approvalId=name, approved=decision.approve, **reason)

    def _approval(self, call: str) -> str:
        return approval_id(self._turn, call)

    def _returned(self, result: ToolResultBlock) -> bytes:
        call = result.tool_use_id
        if call not in self._names:
            return b""  # its call is erased, or was never told of
        if self._outcomes.pop(call, None) == "refused":
            return _part("tool-output-denied", toolCallId=call)
        if result.is_error:
            return _part("tool-output-error", toolCallId=call, errorText=text_of_result(result))
        return _part("tool-output-available", toolCallId=call, output=told_output(result))

    # --- the end ------------------------------------------------------------------------------------------------------

    def _finish(self, turn: TurnTold, reason: str) -> bytes:
        told = self._close() + (b"" if self._step is None else _part("finish-step"))
        metadata = _metadata(turn) | {"usage": _usage(turn.usage)}
        return told + _part("finish", finishReason=reason, messageMetadata=metadata) + DONE


def _part(kind: str, **fields: object) -> bytes:
    return b"data: %b\n\n" % _encode({"type": kind, **fields})


def _metadata(turn: TurnTold) -> dict[str, Any]:
    """Where a message is on record, and which model gave it."""
    return {"model": turn.model, "session": str(turn.session_id), "turn": str(turn.id)}


def _usage(usage: Usage) -> Mapping[str, int | None]:
    """The usage of a turn, in the SDK's words."""
    figures = usage.input_tokens, usage.output_tokens
    return {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": None if None in figures else sum(figure or 0 for figure in figures),
        "reasoningTokens": usage.reasoning_tokens,
        "cachedInputTokens": usage.cache_read_tokens,
    }


def _called(block: ToolUseBlock) -> bytes:
    """A call, when the model has written all of it. One whose input is no object is made by nobody."""
    if block.input is None and block.input_text:
        wrong = "the model's input for this tool is not a JSON object"
        return _part(
            "tool-input-error", toolCallId=block.id, toolName=block.name, input=block.input_text, errorText=wrong
        )
    return _part("tool-input-available", toolCallId=block.id, toolName=block.name, input=block.input or {})


def _file(block: ImageBlock) -> bytes:
    source = block.source
    if hasattr(source, "url"):
        return _part("file", url=source.url, mediaType="image")
    return _part("file", url=f"data:{source.media_type};base64,{source.data}", mediaType=source.media_type)


def _sources(block: TextBlock) -> Sequence[_Source | _Url]:
    """The addresses that a vendor cites with a text."""
    if not isinstance(block.vendor, msgspec.Raw):
        return ()
    try:
        cited = _read_cited(block.vendor)
    except msgspec.MsgspecError:
        return ()
    found = [each.url_citation or each for each in (*(cited.annotations or ()), *(cited.citations or ()))]
    return [each for each in found if each.url]
