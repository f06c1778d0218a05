"""Meters: what they count, and the text in which it is told."""

import math

import pytest

from manent.api.observability.meters import Counter, Histogram, family, gauge
from manent.api.observability.metrics import Metrics
from manent.api.observability.reporter import Answered, Reporter
from manent.engine import EndedAttempt, EndedTurn, Load, Standing, Usage, new_id
from manent.engine.events.usage import Cost
from tests import exposition

IDLE = Load(open_turns=0, readers=0, waiting_writes=0, breakers={})


def text(*meters):
    return "\n".join(line for meter in meters for line in meter) + "\n"


def test_a_counter_counts_each_combination_of_its_labels():
    """What was counted is told for each combination, and nothing else."""
    counter = Counter("manent_things_total", "Things.", "colour", "size")
    counter.add("red", "1")
    counter.add("red", "2", by=40)
    counter.add("red", "2", by=2)
    families = exposition.parse(text(counter.lines()))
    assert exposition.value(families, "manent_things_total", colour="red", size="1") == 1
    assert exposition.value(families, "manent_things_total", colour="red", size="2") == 42
    assert len(families["manent_things_total"].samples) == 2


@pytest.mark.parametrize("strange", ['a"b', "a\\b", "a\nb", "a\\nb", '\\"', "é\u2028", "}", '",x="'])
def test_values_of_labels_are_escaped(strange):
    """A reader of the format gets back the value as it was, whatever stands in it."""
    families = exposition.parse(text(family("manent_x", "gauge", "A\nB \\ C.", [({"of": strange}, 1)])))
    assert exposition.value(families, "manent_x", of=strange) == 1


def test_a_histogram_counts_values_up_to_each_bound():
    """A value counts for its own bound and all above; the sum and the number of all are told."""
    histogram = Histogram("manent_x_seconds", "Waits.", (0.1, 1.0, 10.0))
    for value in (0.05, 0.1, 0.100001, 10.0, 11.0):
        histogram.observe(value)
    samples = exposition.parse(text(histogram.lines()))["manent_x_seconds"].samples
    buckets = {dict(labels)["le"]: value for (_, labels), value in samples.items() if labels}
    assert buckets == {"0.1": 2, "1.0": 3, "10.0": 4, "+Inf": 5}
    assert math.isclose(samples["manent_x_seconds_sum", ()], 21.250001)
    assert samples["manent_x_seconds_count", ()] == 5


def test_figures_are_numbers_that_others_read():
    """Large whole numbers and small fractions keep their value."""
    families = exposition.parse(text(gauge("manent_a", "A.", (1 << 53) - 1), gauge("manent_b", "B.", 0.00001)))
    assert exposition.value(families, "manent_a") == (1 << 53) - 1
    assert exposition.value(families, "manent_b") == 0.00001


def ended_turn(model, **fields):
    told = {"outcome": "completed", "code": None, "first_chunk_ms": 1, "duration_ms": 2} | fields
    return EndedTurn(new_id(), None, model.partition("/")[0], model, **told)


def ended_attempt(model, usage, *costs):
    provider = model.partition("/")[0]
    return EndedAttempt(new_id(), None, provider, model, 1, "completed", None, 5, usage, tuple(costs))


def test_labels_have_few_values():
    """Models that nobody is known to serve are ``other``, however many a client makes up; so are their providers."""
    metrics = Metrics()
    metrics.know(["openai/known"], ["openai"])
    for number in range(100):
        metrics.turn_ended(ended_turn(f"openai/made-up-{number}"))
        metrics.turn_ended(ended_turn(f"gone-{number}/model"))
    metrics.turn_ended(ended_turn("openai/known", outcome="failed", code="provider_unavailable"))
    turns = exposition.parse(text(metrics.lines(IDLE, None)))["manent_turns_total"].samples
    assert {tuple(dict(labels).values()): value for (_, labels), value in turns.items()} == {
        ("other", "completed", "openai"): 100,
        ("other", "completed", "other"): 100,
        ("openai/known", "failed", "openai"): 1,
    }


def test_routes_are_templates():
    """A path that no route has is ``other``; parameters stand by their names, as in the OpenAPI document."""
    reporter = Reporter()
    for template in ("/api/sessions/{session_id:uuid}/events/{version:int}/proof", None):
        reporter.answered(Answered("GET", template, 200, 0.1, "r"))
    lines = "\n".join(reporter._metrics.lines(IDLE, None))
    assert 'route="/api/sessions/{session_id}/events/{version}/proof",status="200"} 1' in lines
    assert 'route="other",status="200"} 1' in lines


def test_tokens_and_costs_add_up():
    """Each kind of token is counted for its model, each currency for itself; what is not reported is not counted."""
    metrics = Metrics()
    metrics.know(["a/b"], ["a"])
    metrics.attempt_ended(ended_attempt("a/b", Usage(100, 60, 10, 7, 3), Cost("EUR", 5), Cost("USD", 1)))
    metrics.attempt_ended(ended_attempt("a/b", Usage(1, None, None, None, None), Cost("EUR", 2)))
    metrics.attempt_ended(ended_attempt("a/b", None))
    families = exposition.parse(text(metrics.lines(IDLE, None)))
    tokens = {dict(labels)["kind"]: value for (_, labels), value in families["manent_tokens_total"].samples.items()}
    assert tokens == {"input": 101, "cache_read": 60, "cache_write": 10, "output": 7, "reasoning": 3}
    assert exposition.value(families, "manent_cost_micros_total", currency="EUR") == 7
    assert exposition.value(families, "manent_cost_micros_total", currency="USD") == 1


def test_interrupted_turns_have_no_duration():
    """How long a server was down is not how long a turn took."""
    metrics = Metrics()
    metrics.turn_ended(ended_turn("a/b", outcome="interrupted", duration_ms=9_000_000, first_chunk_ms=None))
    families = exposition.parse(text(metrics.lines(IDLE, None)))
    assert exposition.count(families, "manent_turn_seconds") == 0
    assert exposition.count(families, "manent_first_chunk_seconds") == 0
    assert exposition.total(families, "manent_turns_total") == 1


def test_figures_of_the_moment_are_told_as_they_are():
    """Load and the standing of the logs become gauges; a database that cannot be read has none."""
    load = Load(open_turns=3, readers=5, waiting_writes=7, breakers={"a": True, "b": False})
    families = exposition.parse(text(Metrics().lines(load, Standing({"red": 10, "blue": 2}, 1.5))))
    told = [exposition.value(families, f"manent_{name}") for name in ("open_turns", "readers", "queue_writes")]
    assert told == [3, 5, 7]
    assert exposition.value(families, "manent_breaker_open", provider="a") == 1
    assert families["manent_breaker_open"].samples["manent_breaker_open", (("provider", "b"),)] == 0
    assert exposition.value(families, "manent_log_size", tenant="red") == 10
    assert exposition.value(families, "manent_checkpoint_age_seconds") == 1.5
    assert "manent_log_size" not in exposition.parse(text(Metrics().lines(load, None)))
