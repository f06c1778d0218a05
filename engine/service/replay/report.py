"""The report of a replay: one HTML page that needs no script and fetches nothing.

It is readable under ``policy()``, which allows its own style and nothing else. What models and users wrote is escaped
wherever it stands. Words that are erased are shown as erased; long ones are cut, and the page says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from ..page_policy import page_policy, sent_policy
from .noise import NOISY, NoiseFloor
from .report_figures import short, time_of
from .report_turn import VERDICTS, ReportItem, badge, first_difference_of, name_of, turn_section, verdict_of
from .report_words import label, sentence
from .results import Mode
from .telling import LAYER_NAMES, badness, in_words

__all__ = ["ReportHeader", "ReportItem", "policy", "report"]

MAX_PAGE_CHARS: Final = 20_000_000
"""Once the page is so long, further turns are told without their words."""

MAX_CELL_CHARS: Final = 80
"""Titles in the table of turns are cut after so many characters."""

MODES: Final[dict[Mode, str]] = {
    "play": "The recorded frames were shown again. Nobody was asked.",
    "recorded": "The log answered in place of the model. A difference is one of our code, and not of a model.",
    "forced": "A model answered each turn on the recorded history. Each turn stands for itself.",
    "free": "A model answered on its own history. After the first difference of a session, the next words of the "
    "user answer something else.",
}
"""What each mode did."""


class ReportHeader(msgspec.Struct, frozen=True):
    """What was replayed. ``model`` answered (None: the log did); times are RFC 3339; ``log`` is the name of the log and
    ``checkpoint`` a signed one as text; ``noise`` is the sum of the floors of all turns, None where nothing was
    repeated.
    """

    mode: Mode
    model: str | None = None
    replay_id: UUID | None = None
    status: str = "completed"
    started_at: str | None = None
    ended_at: str | None = None
    log: str | None = None
    checkpoint: str | None = None
    noise: NoiseFloor | None = None


class _Entry(msgspec.Struct, frozen=True):
    """A turn with its number on the page, and what its place in its session says of it."""

    number: int
    item: ReportItem
    note: str | None


def report(header: ReportHeader, items: Sequence[ReportItem]) -> Iterator[str]:
    """The page, in pieces. Turns are given in the order in which they were recorded, and shown worst first."""
    notes = _notes(header, items)
    order = sorted(range(len(items)), key=lambda place: badness(items[place].result))
    entries = [_Entry(number, items[place], notes.get(place)) for number, place in enumerate(order, 1)]
    yield _head(_title(items))
    yield from _summary(header, items)
    yield from _table(entries)
    length = 0
    for entry in entries:
        for piece in turn_section(entry.number, entry.item, entry.note, with_words=length < MAX_PAGE_CHARS):
            length += len(piece)
            yield piece
    yield "</main></body></html>\n"


def policy() -> str:
    """The Content-Security-Policy to send the page with."""
    return sent_policy(_style())


@cache
def _style() -> str:
    return Path(__file__).with_name("report.css").read_text(encoding="utf-8")


def _notes(header: ReportHeader, items: Sequence[ReportItem]) -> dict[int, str]:
    """Where each conversation of a free replay became another one, by the place of the turn."""
    notes: dict[int, str] = {}
    parted: set[UUID] = set()
    for place, item in enumerate(items if header.mode == "free" else ()):
        if item.result.session_id in parted:
            notes[place] = "the conversation had become another one before"
        elif item.result.verdict == "different":
            parted.add(item.result.session_id)
            notes[place] = "from here on the conversation is another one"
    return notes


# --- the head and the summary -----------------------------------------------------------------------------------------


def _title(items: Sequence[ReportItem]) -> str:
    counts = Counter(item.result.verdict for item in items)
    told = [f"{counts[verdict]} {verdict}" for verdict in ("failed", "different", "skipped", "same") if counts[verdict]]
    return f"Replay of {_turns(len(items))}{': ' * bool(told)}{', '.join(told)}"


def _turns(count: int) -> str:
    return f"{count:,} turn{'s' * (count != 1)}"


def _head(title: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{page_policy(_style())}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{title}</title><style>{_style()}</style></head><body>"
        '<a class="skip" href="#turns">Skip to the turns</a>'
    )


def _summary(header: ReportHeader, items: Sequence[ReportItem]) -> Iterator[str]:
    yield f'<header><h1>{_title(items)}</h1><p class="lede">{MODES[header.mode]}</p></header><main>'
    counts = Counter(verdict_of(item.result) for item in items)
    tiles = [
        f'<li class="{verdict}"><strong>{counts[verdict]:,}</strong>{badge(verdict)}</li>'
        for verdict in VERDICTS
        if counts[verdict] or verdict != "noise"
    ]
    yield f'<ul class="tiles" aria-label="Turns by verdict">{"".join(tiles)}</ul>'
    facts = [(name, value) for name, value in _facts(header, items) if value]
    pairs = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    yield f'<section aria-labelledby="what"><h2 id="what">What was replayed</h2><dl>{pairs}</dl></section>'
    if header.noise is not None:
        yield from _noise(header.noise)


def _facts(header: ReportHeader, items: Sequence[ReportItem]) -> Iterator[tuple[str, str]]:
    """Names and values, which are HTML; empty values are left out."""
    recorded = sorted({item.recorded.model for item in items if item.recorded is not None})
    sessions = len({item.result.session_id for item in items})
    yield "Mode", f"<code>{header.mode}</code>"
    yield "Model", f"<code>{label(header.model)}</code>" if header.model else ""
    yield "Recorded model", ", ".join(f"<code>{label(model)}</code>" for model in recorded)
    yield "Sessions", f"{sessions:,}"
    yield "Status", label(header.status)
    yield "Started", time_of(header.started_at) if header.started_at else ""
    yield "Ended", time_of(header.ended_at) if header.ended_at else ""
    yield "Replay", f"<code>{header.replay_id}</code>" if header.replay_id else ""
    yield "Log", f"<code>{label(header.log)}</code>" if header.log else ""
    yield "Checkpoint", f"<code>{label(header.checkpoint)}</code>" if header.checkpoint else ""


def _noise(noise: NoiseFloor) -> Iterator[str]:
    failed = f" {noise.failed:,} more gave no answer." if noise.failed else ""
    yield '<section aria-labelledby="noise"><h2 id="noise">Noise floor</h2><p>The recorded model answered '
    yield f"{_turns(noise.repeats)} again, and was compared with itself.{failed} A difference is noise if the recorded "
    yield "model shows one of the same kind on the same turn.</p>"
    rows = [
        f'<tr><th scope="row">{LAYER_NAMES[layer].capitalize()}</th>'
        f"<td>{noise.count(layer):,} of {noise.repeats:,}</td></tr>"
        for layer in NOISY
    ]
    yield '<table class="noise-floor"><thead><tr><th scope="col">Layer</th>'
    yield f'<th scope="col">Repeats that differ</th></tr></thead><tbody>{"".join(rows)}</tbody></table></section>'


# --- the table of turns -----------------------------------------------------------------------------------------------


def _table(entries: Sequence[_Entry]) -> Iterator[str]:
    yield '<section aria-labelledby="turns"><h2 id="turns" tabindex="-1">Turns, worst first</h2>'
    if not entries:
        yield "<p>No turn was replayed.</p></section>"
        return
    heads = "".join(f'<th scope="col">{column}</th>' for column in ("Verdict", "Turn", "First difference"))
    heads += "".join(f'<th scope="col" class="figure">{column}</th>' for column in ("Output tokens", "Cost", "Time"))
    yield '<div class="scroll" role="region" tabindex="0" aria-label="Table of turns"><table class="turns">'
    yield "<caption>The new figure, and how it differs from the recorded one</caption>"
    yield f"<thead><tr>{heads}</tr></thead><tbody>"
    yield from map(_line, entries)
    yield "</tbody></table></div></section>"


def _line(entry: _Entry) -> str:
    result = entry.item.result
    first = first_difference_of(entry.item)
    told = label(sentence(result.reason or "")) if first is None else in_words(first)
    link = (
        f'<a href="#turn-{entry.number}"><span class="number">{entry.number}</span> '
        f'<bdi dir="auto">{name_of(entry.item, MAX_CELL_CHARS)}</bdi></a>'
    )
    note = f'<span class="remark">{label(sentence(entry.note))}</span>' if entry.note else ""
    figures = "".join(f'<td class="figure">{short(result, layer)}</td>' for layer in ("tokens", "cost", "time"))
    return (
        f"<tr><td>{badge(verdict_of(result))}</td>"
        f'<th scope="row">{link}</th><td><span dir="auto">{told}</span>{note}</td>{figures}</tr>'
    )
