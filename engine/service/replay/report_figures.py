"""The figures of a turn as a table: tokens, cost and times beside the recorded ones, and how they changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from ...events.usage import Cost, Usage
from ...sessions.turn_views import Turn
from .compare import cost_measure
from .report_words import label
from .results import LayerName, Measure, Result

MINUS: Final = "\N{MINUS SIGN}"
UNKNOWN: Final = "\N{EN DASH}"

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z", re.ASCII)


def count(value: int) -> str:
    """``12,345``."""
    return f"{value:,}"


def milliseconds(value: int) -> str:
    """``850 ms``, or ``1.24 s`` from a second on."""
    return f"{value} ms" if value < 1000 else f"{value / 1000:,.2f} s"


def micros(value: int) -> str:
    """``0.0012``: a millionth is told where there is one, and at least two places are."""
    text = f"{value // 1_000_000:,}.{value % 1_000_000:06d}"
    return text.rstrip("0").ljust(text.index(".") + 3, "0")


def change(measure: Measure, written: Callable[[int], str] = count) -> str:
    """How a figure changed, with its sign; a dash where one of both is not known."""
    if measure.recorded is None or measure.now is None:
        return UNKNOWN
    difference = measure.now - measure.recorded
    if not difference:
        return "0"
    return f"{'+' if difference > 0 else MINUS}{written(abs(difference))}"


_WRITTEN: Final[dict[LayerName, Callable[[int], str]]] = {"tokens": count, "cost": micros, "time": milliseconds}


def short(result: Result, layer: LayerName) -> str:
    """A measure for a cell of the table of turns: the new figure and its change."""
    measure, written = getattr(result.layers, layer), _WRITTEN[layer]
    if measure is None or measure.now is None:
        return UNKNOWN
    return f'{written(measure.now)} <span class="change">{change(measure, written)}</span>'


def time_of(moment: str) -> str:
    """A time in UTC, to the second; what is no time as it is."""
    match = _TIME.fullmatch(moment)
    return label(moment) if match is None else f'<time datetime="{moment}">{match[1]} {match[2]} UTC</time>'


class _Row(msgspec.Struct, frozen=True):
    """A line of the table. The cells are HTML."""

    name: str
    recorded: str
    now: str
    change: str = ""


def figures(result: Result, recorded: Turn | None, now: Turn | None) -> str:
    """The table of one turn; of a turn that is not there only what the result tells."""
    rows = [*_names(recorded, now), *_tokens(result, recorded, now), *_costs(result, recorded, now)]
    rows += _times(result, recorded, now)
    lines = "".join(
        f'<tr><th scope="row">{row.name}</th><td>{row.recorded}</td><td>{row.now}</td><td>{row.change}</td></tr>'
        for row in rows
    )
    return (
        '<div class="scroll" role="region" tabindex="0" aria-label="Figures"><table class="figures">'
        '<caption>Figures</caption><thead><tr><td></td><th scope="col">Recorded</th><th scope="col">New</th>'
        f'<th scope="col">Change</th></tr></thead><tbody>{lines}</tbody></table></div>'
    )


def _names(recorded: Turn | None, now: Turn | None) -> Iterable[_Row]:
    for name, field in (("Model", "model"), ("Status", "status"), ("Stop reason", "stop_reason")):
        told = [UNKNOWN if (value := _field(turn, field)) is None else label(value) for turn in (recorded, now)]
        yield _Row(name, told[0], told[1])


def _field(turn: Turn | None, name: str) -> Any:
    return None if turn is None else getattr(turn, name)


def _tokens(result: Result, recorded: Turn | None, now: Turn | None) -> Iterable[_Row]:
    usages = [Usage() if turn is None else turn.usage for turn in (recorded, now)]
    yield from _row("Input tokens", Measure(*(usage.input_tokens for usage in usages)), count)
    yield from _row("of which cached", Measure(*(usage.cache_read_tokens for usage in usages)), count)
    measure = result.layers.tokens or Measure(*(usage.output_tokens for usage in usages))
    yield from _row("Output tokens", measure, count)


def _times(result: Result, recorded: Turn | None, now: Turn | None) -> Iterable[_Row]:
    begun = Measure(_field(recorded, "first_chunk_ms"), _field(now, "first_chunk_ms"))
    yield from _row("First words after", begun, milliseconds)
    took = result.layers.time or Measure(_field(recorded, "duration_ms"), _field(now, "duration_ms"))
    yield from _row("Took", took, milliseconds)
    attempts = [None if turn is None else len(turn.attempts) for turn in (recorded, now)]
    yield from _row("Requests", Measure(*attempts), count)


def _row(name: str, measure: Measure, written: Callable[[int], str]) -> Iterable[_Row]:
    if measure.recorded is not None or measure.now is not None:
        cells = [UNKNOWN if value is None else written(value) for value in (measure.recorded, measure.now)]
        yield _Row(name, cells[0], cells[1], change(measure, written))


def _costs(result: Result, recorded: Turn | None, now: Turn | None) -> Iterable[_Row]:
    """Only costs in the same currency have a change."""
    costs = [() if turn is None else turn.costs for turn in (recorded, now)]
    if any(costs):
        measure = None if recorded is None or now is None else cost_measure(recorded, now)
        changed = UNKNOWN if measure is None else change(measure, micros)
        yield _Row("Cost", _cost(costs[0]), _cost(costs[1]), changed)
    elif result.layers.cost is not None:
        yield from _row("Cost", result.layers.cost, micros)


def _cost(costs: tuple[Cost, ...]) -> str:
    told = [f"{micros(cost.micros)} {label(cost.currency)}{' (estimated)' * cost.estimated}" for cost in costs]
    return ", ".join(told) or UNKNOWN
