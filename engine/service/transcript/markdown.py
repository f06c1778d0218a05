"""A transcript as Markdown (CommonMark). What others wrote stands in fences and code spans only, which nothing inside
can end, and hidden characters are written out; so it is shown as text by every reader of Markdown.
"""

from __future__ import annotations

import re

from ...sessions.views import ErasureInfo
from .base import WHAT_IT_IS, Ending, Entry, Heading, Pairs, Writer, erased, moment
from .hidden import written_out

MAX_LABEL_CHARS = 1_000

_TICKS = re.compile("`+")


class Markdown(Writer):
    """See the module."""

    def head(self, heading: Heading) -> str:
        history = f"\n{heading.history}\n" if heading.history else ""
        return f"# Transcript of {span(heading.title)}\n\n{_pairs(heading.facts)}\n{WHAT_IT_IS}\n{history}\n---\n"

    def entry(self, entry: Entry) -> str:
        parts = [f"\n### Version {entry.version}, position {entry.position}: {entry.says}\n\n"]
        parts.append(f"{span(entry.who)}, {moment(entry.at)}\n\n")
        parts.extend(
            (f"{passage.caption}:\n\n" if passage.caption else "") + fenced(passage.text) for passage in entry.passages
        )
        if entry.targets:
            parts.append(f"- Positions: {', '.join(map(str, entry.targets))}\n")
        parts.append(_pairs(entry.details))
        if entry.gone is not None:
            parts.append(_gone(entry.gone))
        if entry.damaged:
            parts.append("\n**Damaged: the words are not those that were recorded, and are not shown.**\n")
        return "".join(parts)

    def fork(self, heading: Heading) -> str:
        return f"\n---\n\n**The fork begins here.** {heading.history}\n"

    def end(self, ending: Ending) -> str:
        parts = ["\n---\n\n## Proof, and how to check it\n\n"]
        if ending.proof is None:
            parts.append(f"No checkpoint covers this yet: {span(ending.missing)}\n")
        else:
            parts += [_pairs(ending.proof.facts), "\nThe signed checkpoint:\n\n", fenced(ending.proof.note)]
        parts.append("\n")
        for number, (text, command) in enumerate(ending.steps, 1):
            parts.append(f"{number}. {text}\n\n   {span(command)}\n\n")
        return "".join(parts)


def _gone(gone: ErasureInfo) -> str:
    said, reason = erased(gone)
    return f"\n**The words are erased.** {span(said)}\n" + (f"\nReason:\n\n{fenced(reason)}" if reason else "")


def _pairs(pairs: Pairs) -> str:
    return "".join(f"- {name}: {span(value)}\n" for name, value in pairs)


def span(text: str) -> str:
    """A short text on one line as a code span."""
    line = written_out(" ".join(text.split())) or " "
    line = line if len(line) <= MAX_LABEL_CHARS else f"{line[: MAX_LABEL_CHARS - 1]}…"
    ticks = "`" * (1 + max((len(run) for run in _TICKS.findall(line)), default=0))
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def fenced(text: str) -> str:
    """A text as a fenced block: the fence is longer than any row of ticks in it."""
    shown = written_out(text)
    fence = "`" * max(3, 1 + max((len(run) for run in _TICKS.findall(shown)), default=0))
    return f"{fence}text\n{shown}\n{fence}\n\n"
