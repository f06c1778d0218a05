"""How a conversation looks in a terminal: text made safe, messages, and a turn's frames as they come."""

from __future__ import annotations

import sys
from typing import Any
from uuid import UUID

import click
import msgspec
from rich.console import Console
from rich.table import Table

from ...engine import EngineError, Frame, Message, Session, Turn

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ends."""
MAX_INPUT_CHARS = 500
MAX_TABLE_CHARS = 10_000
SHORT_ID_CHARS = 13
"""The beginning of an id that tells its millisecond, and in practice the session."""
ENDED_WELL = frozenset({None, "end_turn", "tool_use", "stop_sequence"})
"""Reasons to stop that need no remark."""
DAMAGED = "damaged: the words of event {} are not those that were recorded"

_CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
_CONTROLS |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
_CONTROLS |= dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)  # they turn a line round


def printable(text: str) -> str:
    """Text that cannot command a terminal: control characters are shown (ESC as ``␛``) and not sent."""
    return text.translate(_CONTROLS)


def one_line(text: str) -> str:
    return " ".join(printable(text).split())


def moment(time: str) -> str:
    """``2026-01-02 03:04:05`` of RFC 3339 text; UTC, like all times here."""
    return time[:19].replace("T", " ")


def short_id(session: UUID) -> str:
    """The beginning of an id, which every command takes in its place."""
    return str(session)[:SHORT_ID_CHARS]


def print_table(table: Table, *, err: bool = False) -> None:
    """As wide as the terminal; into a file or a pipe without a limit, and without blanks at the ends of lines."""
    if (sys.stderr if err else sys.stdout).isatty():
        Console(highlight=False, stderr=err).print(table)
        return
    wide = Console(width=MAX_TABLE_CHARS, highlight=False)
    with wide.capture() as captured:
        wide.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip(), err=err)


def notice(text: str) -> None:
    """A remark beside the conversation, on standard error."""
    click.echo(f"manent: {printable(text)}", err=True)


def describe(error: EngineError) -> str:
    """The sentence of an error; where a name was unknown, with the names there are."""
    available = error.extra.get("available")
    names = ", ".join(map(str, available)) if isinstance(available, list) else ""
    return f"{error.detail}; there is {names}" if names else error.detail


# --- what is on record ------------------------------------------------------------------------------------------------


def print_session(session: Session, turn: Turn | None = None) -> None:
    """A session, with the turn that is open in it."""
    title = f"  {one_line(session.title)}" if session.title else ""
    click.secho(f"session {session.id}{title}", bold=True)
    figures = f"version {session.version}, {session.message_count} messages, {session.token_count} tokens"
    click.echo(f"{session.model}, {session.status}, {figures}")
    click.echo(f"created {moment(session.created_at)}, last activity {moment(session.updated_at)} (UTC)")
    for cost in session.costs:
        click.echo(f"cost {cost.micros / 1e6:.6f} {cost.currency}{', in part estimated' * cost.estimated}")
    if turn is not None:
        waits = f"waits for a decision on {', '.join(call.tool_use_id for call in turn.pending_approvals)}"
        click.echo(f"turn {turn.id} {waits if turn.pending_approvals else 'is running'}")
    elif session.open_turn_id is not None:
        click.echo(f"turn {session.open_turn_id} is open")
    if session.system:
        click.secho("\nsystem prompt", bold=True)
        click.echo(printable(session.system))


def print_message(message: Message, remark: str = "") -> None:
    """A message with a heading. ``remark``: why it is incomplete."""
    print_heading(message, remark)
    for raw in message.content:
        click.echo(block_line(msgspec.json.decode(raw)))


def print_heading(message: Message, remark: str = "") -> None:
    marks = ["erased"] * (message.erased is not None) + [DAMAGED.format(message.position)] * (message.damaged is True)
    marks += [f"incomplete{remark and f': {remark}'}"] * (not message.complete)
    marks += [f"ended early: {one_line(str(message.stop_reason))}"] * (message.stop_reason not in ENDED_WELL)
    mark = f"  [{', '.join(marks)}]" if marks else ""
    model = f"  {one_line(message.model)}" if message.model else ""
    click.echo()
    click.secho(f"#{message.version} {message.role}{model}  {moment(message.created_at)}{mark}", bold=True)


def block_line(block: dict[str, Any]) -> str:
    """A content block as text; all but words are summarised."""
    match block:
        case {"type": "text", "text": str(text)}:
            return printable(text)
        case {"type": "thinking", "text": str(text)}:
            return f"[thinking, {len(text)} characters]"
        case {"type": "tool_use", "name": str(name)}:
            given = block.get("input")
            return f"[asks for {name} {_short(given if given is not None else block.get('input_text') or '')}]"
        case {"type": "tool_result", "tool_use_id": str(call)}:
            kind = "error" if block.get("is_error") else "result"
            return f"[{kind} of {call}: {_short(_result(block.get('content', '')))}]"
        case {"type": "image", "source": {"type": "url", "url": str(url)}}:
            return f"[image {one_line(url)}]"
        case {"type": "image", "source": {"media_type": str(media_type), "data": str(data)}}:
            return f"[image {media_type}, {len(data) * 3 // 4} bytes]"
    return f"[{one_line(str(block.get('type')))} block]"


def _result(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(block_line(block) for block in content)


def _short(value: Any) -> str:
    text = one_line(value if isinstance(value, str) else msgspec.json.encode(value).decode())
    return text if len(text) <= MAX_INPUT_CHARS else f"{text[:MAX_INPUT_CHARS]}… ({len(text)} characters)"


# --- what is coming in ------------------------------------------------------------------------------------------------


class FramePrinter:
    """Prints a turn's frames: words on standard output as they come, all else in brackets or on standard error.

    A file or a pipe gets the words as they are; a terminal gets them ``printable``.
    """

    def __init__(self) -> None:
        self._in_terminal = sys.stdout.isatty()
        self._in_line = False

    def show(self, frame: Frame) -> None:
        data = msgspec.json.decode(frame.data)
        match frame.type:
            case "delta":
                self._delta(data["type"], data["text"])
            case "block.started" | "turn.started":
                self.end_line()
            case "message.appended":
                self._message(data)
            case "tool.approved" | "tool.refused":
                self._decision(data)
            case _ if remark := _remark(frame.type, data):
                self.end_line()
                notice(remark)

    def end_line(self) -> None:
        if self._in_line:
            click.echo()
        self._in_line = False

    def _delta(self, kind: str, text: str) -> None:
        if kind == "text":
            click.echo(printable(text) if self._in_terminal else text, nl=False)
        elif kind == "thinking" and self._in_terminal:
            click.secho(printable(text), nl=False, dim=True)
        else:
            return
        self._in_line = True

    def _message(self, message: dict[str, Any]) -> None:
        """The words were shown as they came; what did not come as words is shown now."""
        self.end_line()
        for block in message["content"]:
            if block.get("type") not in {"text", "thinking"}:
                click.echo(block_line(block))

    def _decision(self, data: dict[str, Any]) -> None:
        self.end_line()
        reason = f": {one_line(data['reason'])}" if data["reason"] else ""
        said = "approves" if data["approve"] else "refuses"
        click.echo(f"[{one_line(data['actor'])} {said} {data['tool_use_id']}{reason}]")


def _remark(kind: str, data: dict[str, Any]) -> str | None:
    """A remark of a frame that is no part of the conversation."""
    match kind:
        case "attempt.failed":
            return f"attempt {data['attempt']} failed ({data['code']}); trying again"
        case "turn.paused":
            return f"the turn waits for a person: {_awaited(data)}"
        case "turn.completed" if data["stop_reason"] not in ENDED_WELL:
            return f"the answer ended early: {data['stop_reason']}"
        case "turn.failed":
            error = data["error"] or {}
            return f"the turn failed: {error.get('detail') or 'no detail'} ({error.get('code')})"
        case "turn.cancelled" | "turn.interrupted":
            return f"{kind.partition('.')[2]}; what came is on record"
        case "error":
            return f"{data.get('detail')} ({data.get('code')})"
    return None


def _awaited(turn: dict[str, Any]) -> str:
    """The calls that a turn waits for a decision on, with the names of their tools."""
    return ", ".join(f"{call['tool_use_id']} ({call['name']})" for call in turn["pending_approvals"])
