"""The part of the report that is about one turn: verdict, first difference, answers side by side, figures, request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from ...events.blocks import Block, TextBlock, ThinkingBlock, ToolResultBlock, ToolUseBlock, raw_block, text_of
from ...sessions.turn_views import Turn
from ...sessions.views import Message
from .answers import Answer, arguments_of, content_of, kind_of, pairs
from .compare import difference_in, request_difference
from .noise import differing
from .report_figures import figures, time_of
from .report_words import MAX_LABEL_CHARS, block, compared, label, pretty, pretty_text, sentence, sides
from .results import LAYERS, MEASURES, FirstDifference, Result
from .telling import LAYER_NAMES, in_words

MAX_REQUEST_CHARS: Final = 50_000
"""Of a request, at most so many characters stand on the page, on each side."""


class ReportItem(msgspec.Struct, frozen=True):
    """A turn of the report. ``recorded`` and ``now`` are the turns with their messages, None where there is none or it
    cannot be read; the requests are texts, None where they are not known; ``title`` names the session.
    """

    result: Result
    recorded: Turn | None = None
    now: Turn | None = None
    recorded_request: str | None = None
    now_request: str | None = None
    title: str | None = None


VERDICTS: Final = {
    "failed": ("✕", "Failed"),
    "different": ("≠", "Different"),
    "noise": ("≈", "Within noise"),
    "skipped": ("\N{EN DASH}", "Skipped"),
    "same": ("=", "Same"),
}
"""A sign and a word for each verdict, worst first; colours only repeat them."""


def verdict_of(result: Result) -> str:
    """The verdict; ``noise`` for a difference within it."""
    return "noise" if result.verdict == "different" and result.noise else result.verdict


def badge(verdict: str) -> str:
    """The verdict as a sign and a word."""
    sign, word = VERDICTS[verdict]
    return f'<span class="badge {verdict}"><span aria-hidden="true">{sign}</span> {word}</span>'


def name_of(item: ReportItem, most: int = MAX_LABEL_CHARS) -> str:
    """The session's title; its id where it has none."""
    return label(item.title, most) if item.title else f"Session {item.result.session_id}"


def turn_section(number: int, item: ReportItem, note: str | None, *, with_words: bool) -> Iterator[str]:
    """The section of one turn. ``note``: something more to say of it; ``with_words``: answers and requests are told."""
    yield f'<section class="turn" id="turn-{number}" aria-labelledby="turn-{number}-name">'
    yield f'<h3 id="turn-{number}-name">{badge(verdict_of(item.result))} <span class="number">{number}</span> '
    yield f'<bdi dir="auto">{name_of(item)}</bdi></h3>'
    yield from _what_happened(item, note)
    yield from _first_difference(first_difference_of(item))
    yield _layers(item.result)
    if with_words:
        yield from _answers(item)
    else:
        yield '<p class="note">The page is full: the words of this turn are not shown.</p>'
    yield figures(item.result, item.recorded, item.now)
    if with_words:
        yield _request(item)
    yield '<p class="back"><a href="#turns">Back to the table</a></p></section>'


# --- what happened ----------------------------------------------------------------------------------------------------


def _what_happened(item: ReportItem, note: str | None) -> Iterator[str]:
    result = item.result
    yield f'<p class="ids">Turn <code>{result.turn_id}</code> of session <code>{result.session_id}</code>'
    if result.new_turn_id is not None:
        yield f", done again as <code>{result.new_turn_id}</code>"
    yield "</p>"
    reasons = [result.reason, note, "it was asked once more after a restart" if result.repeated else None]
    for reason in filter(None, reasons):
        yield f'<p class="reason" dir="auto">{label(sentence(reason))}</p>'
    if item.now is not None and item.now.error is not None:
        error = item.now.error
        detail = f': <bdi dir="auto">{label(error.detail)}</bdi>' if error.detail else ""
        yield f'<p class="reason">The new turn ended with <code>{label(error.code)}</code>{detail}</p>'


def first_difference_of(item: ReportItem) -> FirstDifference | None:
    """The first difference, with what stands there: results on record tell the place alone, and the texts are read from
    the turns and the requests, as far as they are there.
    """
    first = item.result.first_difference
    if first is None or first.recorded is not None or first.now is not None:
        return first
    if first.layer == "request" and item.recorded_request is not None and item.now_request is not None:
        requests = (text.encode(errors="replace") for text in (item.recorded_request, item.now_request))
        return request_difference(*requests) or first
    if item.recorded is None or item.now is None:
        return first
    return difference_in(first.layer, item.recorded, item.now) or first


def _first_difference(first: FirstDifference | None) -> Iterator[str]:
    if first is None:
        return
    yield f'<div class="first"><p><strong>{in_words(first)}</strong> <code>{label(first.path)}</code></p>'
    if first.recorded is not None or first.now is not None:
        values = ["nothing" if value is None else value for value in (first.recorded, first.now)]
        yield sides(*(block(value if isinstance(value, str) else pretty(value), code=True) for value in values))
    yield "</div>"


def _layers(result: Result) -> str:
    different = differing(result.layers)
    chips = [
        f'<li class="{"differs" if layer in different else "equal"}">{LAYER_NAMES[layer]} '
        f"{'different' if layer in different else 'same'}</li>"
        for layer in LAYERS
        if layer not in MEASURES and getattr(result.layers, layer) is not None
    ]
    return f'<ul class="layers" aria-label="Layers">{"".join(chips)}</ul>' if chips else ""


# --- the answers ------------------------------------------------------------------------------------------------------


def _answers(item: ReportItem) -> Iterator[str]:
    recorded, now = item.recorded, item.now
    if item.result.verdict == "same":
        yield "<details><summary>The answer</summary>"
    else:
        yield "<h4>The answer</h4>"
    if recorded is None or now is None:
        yield f'<p class="note">{_not_there(recorded, now)}</p>'
    found = [*pairs(recorded, now)]
    for index, old, new in found:
        if len(found) > 1:
            yield f"<h5>Message {index + 1} of the turn</h5>"
        yield from _message(old, new)
    yield _results(recorded, now)
    if item.result.verdict == "same":
        yield "</details>"


def _not_there(recorded: Turn | None, now: Turn | None) -> str:
    if recorded is None and now is None:
        return "Neither answer can be read."
    return "The recorded turn cannot be read." if recorded is None else "There is no new answer."


def _message(old: Answer | None, new: Answer | None) -> Iterator[str]:
    """Two answers. Where one is missing or gone, the other is shown as it is: not all of it is a difference."""
    if old is None or new is None or _gone(old.message) or _gone(new.message):
        yield sides(_alone(old), _alone(new))
        return
    if [*map(kind_of, old.content)] != [*map(kind_of, new.content)] or len(old.content) > 1:
        yield sides(_kinds(old), _kinds(new))
    yield compared(old.text, new.text)
    yield compared(_calls(old), _calls(new), code=True)


def _alone(answer: Answer | None) -> str:
    if answer is None:
        return '<p class="none">no such message</p>'
    gone = _gone(answer.message)
    if gone:
        return gone
    text, calls = answer.text, _calls(answer)
    return f"{_kinds(answer)}{block(text) if text else ''}{block(calls, code=True) if calls else ''}"


def _gone(message: Message) -> str:
    """What is said in the stead of words that are gone; empty if they are there."""
    if message.erased is not None:
        erased = message.erased
        reason = f': <bdi dir="auto">{label(erased.reason)}</bdi>' if erased.reason else ""
        return f'<p class="gone">Erased by {label(erased.actor)}, {time_of(erased.at)}{reason}</p>'
    return '<p class="gone">Damaged: the words are not those that were recorded.</p>' if message.damaged is True else ""


def _kinds(answer: Answer) -> str:
    """The blocks of an answer, named."""
    names = [f'<li><bdi dir="auto">{_kind(each)}</bdi></li>' for each in answer.content]
    return f'<ul class="blocks" aria-label="Blocks">{"".join(names)}</ul>' if names else '<p class="none">no blocks</p>'


def _kind(each: Block) -> str:
    if isinstance(each, TextBlock | ThinkingBlock):
        return f"{kind_of(each)}, {len(each.text):,} characters"
    if isinstance(each, ToolUseBlock):
        return f"call of {label(each.name)}"
    return f"{label(kind_of(each))}, {len(raw_block(each)):,} bytes"


def _calls(answer: Answer) -> str:
    """The tool calls of an answer as text: each its tool's name and its arguments."""
    return "\n\n".join(f"{call.name}\n{_arguments(call)}" for call in answer.calls)


def _arguments(call: ToolUseBlock) -> str:
    arguments = arguments_of(call)
    return arguments if isinstance(arguments, str) else pretty(arguments)


def _results(recorded: Turn | None, now: Turn | None) -> str:
    """What the tools gave back, on demand: it is not the model's, and is not compared."""
    texts = _results_of(recorded), _results_of(now)
    if not any(texts):
        return ""
    return f"<details><summary>Results of tools</summary>{compared(*texts, code=True)}</details>"


def _results_of(turn: Turn | None) -> str:
    messages = () if turn is None else turn.messages
    results = [each for message in messages for each in content_of(message) if isinstance(each, ToolResultBlock)]
    return "\n\n".join(
        pretty_text(each.content) if isinstance(each.content, str) else text_of(each.content) for each in results
    )


# --- the request ------------------------------------------------------------------------------------------------------


def _request(item: ReportItem) -> str:
    recorded, now = item.recorded_request, item.now_request
    if recorded is None and now is None:
        return ""
    if recorded is None or now is None:
        whose = "recorded" if now is None else "new"
        shown = block(pretty_text(recorded or now or ""), MAX_REQUEST_CHARS, code=True)
        return f"<details><summary>The {whose} request</summary>{shown}</details>"
    if recorded == now:
        shown = block(pretty_text(now), MAX_REQUEST_CHARS, code=True)
        return f"<details><summary>The request, equal to the byte</summary>{shown}</details>"
    texts = pretty_text(recorded), pretty_text(now)
    if texts[0] == texts[1]:  # the same JSON, written otherwise
        texts = recorded, now
    shown = compared(*texts, MAX_REQUEST_CHARS, code=True)
    return f"<details><summary>The requests, which differ</summary>{shown}</details>"
