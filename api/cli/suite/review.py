"""``manent review``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import UUID

import click
import msgspec

from ....engine import Invalid, NotFound, Replay, Result, Suite
from ..chat.lines import read_lines
from ..database import ID_DIGITS, read_prefix
from ..place import place_of, place_options
from ..replay.done import lines_of
from ..terminal import block_line, notice, one_line
from ..word_difference import word_difference
from .client import Record
from .place import open_record

QUESTION = "accept the new answer? a: accept, r: reject, s: skip, q: quit"
ANSWERS = {"a": "accept", "r": "reject", "s": "skip", "q": "quit"}


class Reviewed(msgspec.Struct):
    """How many differences were decided, and how."""

    accepted: int = 0
    rejected: int = 0
    left: int = 0


@click.command()
@click.argument("what", required=False, metavar="[REPLAY or SUITE]")
@click.option("--accept-all", is_flag=True, help="Accept every difference, without asking.")
@place_options
@click.pass_context
def review(context: click.Context, /, *, what: str | None, accept_all: bool, **place: Any) -> None:
    """Go through the differences of a replay, one at a time: accept, reject, skip, or quit.

    WHAT is a replay, or a suite: then its newest one that has asked a model; by default the newest of any suite. An
    answer that is accepted is the suite's reference from now on; nothing is recorded for the others. Decisions
    are read from standard input, a letter a line: from a terminal, or from a pipe.

    Exit code 1 if a difference was rejected.
    """
    with closing(open_record(place_of(context, **place), writes=True)) as record:
        replay = _find(record, what)
        suite = _suite_of(record, replay)
        found = [each for each in record.results(replay.id) if _is_open(each, suite)]
        click.secho(f"replay {replay.id} of suite {one_line(suite.name)}: {len(found)} differences", bold=True)
        lines = iter(lambda: "a", "") if accept_all else read_lines()
        done = _decide(record, replay, found, lines, quiet=accept_all)
    click.secho(f"{done.accepted} accepted, {done.rejected} rejected, {done.left} left", bold=True)
    if done.rejected:
        sys.exit(1)


def _decide(record: Record, replay: Replay, found: list[Result], lines: Iterator[str], *, quiet: bool) -> Reviewed:
    done = Reviewed()
    for number, result in enumerate(found, 1):
        click.secho(f"\n{number} of {len(found)}: turn {result.turn_id} of session {result.session_id}", fg="yellow")
        _show(record, result)
        answer = _answer(lines, quiet=quiet)
        if answer == "quit":
            done.left += len(found) - number + 1
            break
        if answer == "accept":
            record.accept(replay.id, result.turn_id)
        done.accepted += answer == "accept"
        done.rejected += answer == "reject"
        done.left += answer == "skip"
    return done


def _answer(lines: Iterator[str], *, quiet: bool) -> str:
    """What is decided; the end of the input quits."""
    while True:
        if not quiet:
            notice(QUESTION)
        given = next(lines, "q").strip().lower()
        for letter, answer in ANSWERS.items():
            if given in {letter, answer}:
                return answer


def _show(record: Record, result: Result) -> None:
    """The first difference, and the words of both answers, one in the other."""
    recorded, now = (_said(record, turn) for turn in (result.turn_id, result.new_turn_id))
    for line in lines_of(result, values=recorded == now):
        click.echo(f"    {line}")
    click.echo(word_difference(recorded, now))


def _said(record: Record, turn: UUID | None) -> str:
    """What a person reads of an answer, calls of tools included; nothing of one that is erased."""
    messages = () if turn is None else record.turn(turn).messages
    answers = [message for message in messages if message.role == "assistant"]
    return "\n".join(block_line(msgspec.json.decode(raw)) for message in answers for raw in message.content)


# --- finding ----------------------------------------------------------------------------------------------------------


def _find(record: Record, what: str | None) -> Replay:
    """The replay that is meant. Raises Invalid and NotFound."""
    replay_id = None if what is None else _as_id(what)
    if replay_id is not None:
        return record.replay_state(replay_id)
    for replay in record.replays():
        if replay.suite is not None and what in {None, replay.suite} and replay.mode != "recorded":
            return replay
    whose = "any suite" if what is None else f"a suite {what!r}"
    raise NotFound(f"there is no replay of {whose} that has asked a model: see manent suite run --mode forced")


def _as_id(what: str) -> UUID | None:
    """None for what is no id, and so a name."""
    try:
        digits = read_prefix(what)
    except Invalid:
        return None
    return UUID(digits) if len(digits) == ID_DIGITS else None


def _suite_of(record: Record, replay: Replay) -> Suite:
    """Raises Invalid for a replay that nothing can be accepted of."""
    suite = None if replay.suite is None else record.suite(replay.suite)
    if suite is None:
        raise Invalid("replay", "is of no suite, so there is nothing to accept its answers for")
    if replay.mode == "recorded":
        raise Invalid("replay", "is of the mode recorded: the log has answered, and there is no new answer to accept")
    return suite


def _is_open(result: Result, suite: Suite) -> bool:
    """True for a difference that is no noise, and whose turn is the reference still."""
    held = {item.turn_id for item in suite.items}
    return result.verdict == "different" and not result.noise and result.turn_id in held
