"""A transcript as one HTML page that needs no script, fetches nothing and prints well.

It is readable under ``policy()``, which allows its own style and nothing else. What others wrote is escaped wherever it
stands, and hidden characters in it are written out.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ...sessions.views import ErasureInfo
from ..page_policy import page_policy, sent_policy
from ..replay.report_words import label, words
from .base import WHAT_IT_IS, Ending, Entry, Heading, Pairs, Passage, Writer, erased, moment

MAX_LABEL_CHARS = 1_000


def policy() -> str:
    """The Content-Security-Policy to send the page with."""
    return sent_policy(_style())


@cache
def _style() -> str:
    return Path(__file__).with_name("transcript.css").read_text(encoding="utf-8")


class Html(Writer):
    """See the module."""

    def head(self, heading: Heading) -> str:
        title = label(heading.title, MAX_LABEL_CHARS)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{page_policy(_style())}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
            f"<title>Transcript of {title}</title><style>{_style()}</style></head><body>"
            f'<header><p class="kind">Transcript</p><h1 dir="auto">{title}</h1>{_pairs(heading.facts)}'
            f'<p class="lede">{WHAT_IT_IS} <a href="#proof">To the proof</a>.</p>{_history(heading)}</header>'
            '<main><section aria-labelledby="said"><h2 id="said">What was said and done</h2>\n'
        )

    def entry(self, entry: Entry) -> str:
        passages = "".join(map(_passage, entry.passages))
        gone = "" if entry.gone is None else _gone(entry.gone)
        if entry.damaged:
            gone += '<p class="gone">Damaged: the words are not those that were recorded, and are not shown.</p>'
        return (
            f'<article class="{entry.kind}" id="p{entry.position}"><header><h3>'
            f'<bdi class="who">{label(entry.who)}</bdi> <span class="says">{words(entry.says)}</span></h3>'
            f'<p class="place"><time datetime="{entry.at}">{moment(entry.at)}</time> '
            f'<a href="#p{entry.position}">version {entry.version:,} · position {entry.position:,}</a></p></header>'
            f"{passages}{gone}{_targets(entry.targets)}{_details(entry.details)}</article>\n"
        )

    def silent(self, position: int) -> str:
        return f'<span id="p{position}"></span>\n'

    def fork(self, heading: Heading) -> str:
        return f'<p class="fork"><strong>The fork begins here.</strong> {words(heading.history)}</p>\n'

    def end(self, ending: Ending) -> str:
        parts = ['</section><section id="proof" class="proof"><h2>Proof, and how to check it</h2>']
        if ending.proof is None:
            parts.append(f'<p class="gone">No checkpoint covers this yet: {label(ending.missing)}</p>')
        else:
            parts.append(_pairs(ending.proof.facts))
            parts.append(f"<p>The signed checkpoint:</p><pre>{words(ending.proof.note)}</pre>")
        steps = "".join(f"<li>{words(text)}<pre>{words(command)}</pre></li>" for text, command in ending.steps)
        parts.append(f"<h3>To check it</h3><ol>{steps}</ol></section></main></body></html>\n")
        return "".join(parts)


def _history(heading: Heading) -> str:
    return f'<p class="fork">{words(heading.history)}</p>' if heading.history else ""


def _pairs(pairs: Pairs) -> str:
    each = "".join(
        f"<div><dt>{name}</dt><dd><bdi>{label(value, MAX_LABEL_CHARS)}</bdi></dd></div>" for name, value in pairs
    )
    return f"<dl>{each}</dl>"


def _details(pairs: Pairs) -> str:
    each = "".join(f"<li>{name}: <bdi>{label(value, MAX_LABEL_CHARS)}</bdi></li>" for name, value in pairs)
    return f'<ul class="details">{each}</ul>' if each else ""


def _targets(positions: tuple[int, ...]) -> str:
    links = " ".join(f'<a href="#p{position}">{position}</a>' for position in positions)
    return f'<p class="targets">Positions: {links}</p>' if positions else ""


def _passage(passage: Passage) -> str:
    caption = f'<p class="caption">{passage.caption}</p>' if passage.caption else ""
    return f'{caption}<div class="words{" code" * passage.code}" dir="auto">{words(passage.text)}</div>'


def _gone(gone: ErasureInfo) -> str:
    said, reason = erased(gone)
    why = f'<br>Reason: <bdi dir="auto">{words(reason)}</bdi>' if reason else ""
    return f'<p class="gone">{label(said)}{why}</p>'
