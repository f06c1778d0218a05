"""The metrics of a server. Labels have few values: routes are templates, models those that are known to be served;
everything else is ``other``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...engine import EndedAttempt, EndedTurn, Load, Standing
from .meters import Counter, Histogram, family, gauge

OTHER = "other"

DISK_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
FIRST_CHUNK_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
TURN_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

TOKENS = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
}
"""Kind of token -> its field of a usage."""


class Metrics:
    """Counts what happens; ``lines`` gives it together with what is read when somebody asks."""

    def __init__(self) -> None:
        self._models: frozenset[str] = frozenset()
        self._providers: frozenset[str] = frozenset()
        self.requests = Counter(
            "manent_requests_total", "HTTP requests, by their route's template and their status.", "route", "status"
        )
        self.turns = Counter(
            "manent_turns_total",
            "Turns ended, by the model of their last attempt; outcome: completed, failed, cancelled or interrupted.",
            *("provider", "model", "outcome"),
        )
        self.tokens = Counter(
            "manent_tokens_total",
            "Tokens of ended attempts. Kind input includes cache_read and cache_write, output includes reasoning.",
            *("provider", "model", "kind"),
        )
        self.costs = Counter(
            "manent_cost_micros_total", "Cost of ended attempts whose price is known, in millionths.", "currency"
        )
        self.first_chunk = Histogram(
            "manent_first_chunk_seconds", "From a turn's start to the first chunk of an answer.", FIRST_CHUNK_S
        )
        self.turn = Histogram(
            "manent_turn_seconds",
            "From a turn's start to its end, with the time that it waited for decisions; not of interrupted turns.",
            TURN_S,
        )
        self.append = Histogram(
            "manent_append_seconds", "From handing events over until they are durable, with the wait in line.", DISK_S
        )
        self.flush = Histogram(
            "manent_journal_flush_seconds", "From handing frames of running turns over until they are durable.", DISK_S
        )

    def know(self, models: Iterable[str], providers: Iterable[str]) -> None:
        """Let these be values of labels."""
        self._models, self._providers = frozenset(models), frozenset(providers)

    def turn_ended(self, turn: EndedTurn) -> None:
        self.turns.add(*self.names(turn.provider, turn.model), turn.outcome)
        if turn.first_chunk_ms is not None:
            self.first_chunk.observe(turn.first_chunk_ms / 1000)
        if turn.duration_ms is not None and turn.outcome != "interrupted":
            self.turn.observe(turn.duration_ms / 1000)

    def attempt_ended(self, attempt: EndedAttempt) -> None:
        names = self.names(attempt.provider, attempt.model)
        for kind, field in TOKENS.items():
            count = getattr(attempt.usage, field, None)
            if count:
                self.tokens.add(*names, kind, by=count)
        for cost in attempt.costs:
            self.costs.add(cost.currency, by=cost.micros)

    def lines(self, load: Load, standing: Standing | None) -> Iterator[str]:
        """All of them as text. ``standing`` is None where the database could not be read: its metrics are left out."""
        for counted in (self.requests, self.turns, self.tokens, self.costs):
            yield from counted.lines()
        for measured in (self.first_chunk, self.turn, self.append, self.flush):
            yield from measured.lines()
        yield from gauge("manent_open_turns", "Turns that run now.", load.open_turns)
        yield from gauge("manent_readers", "Open event streams, and requests that wait for a turn.", load.readers)
        yield from gauge("manent_queue_writes", "Writes that wait for the disk.", load.waiting_writes)
        yield from family(
            "manent_breaker_open",
            "gauge",
            "1 while a provider is left alone after repeated failures, else 0.",
            [({"provider": name}, int(is_open)) for name, is_open in sorted(load.breakers.items())],
        )
        if standing is not None:
            sizes = [({"tenant": tenant}, size) for tenant, size in sorted(standing.sizes.items())]
            yield from family("manent_log_size", "gauge", "Events in a tenant's log.", sizes)
            meaning = "Age of the oldest event that no signed checkpoint covers yet; 0 where all are covered."
            yield from gauge("manent_checkpoint_age_seconds", meaning, standing.uncovered_s)

    def names(self, provider: str, model: str) -> tuple[str, str]:
        """Values of the labels: a client, or an old record, may have named a model that nobody knows."""
        return provider if provider in self._providers else OTHER, model if model in self._models else OTHER
