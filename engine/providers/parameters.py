"""Parameters that a model can be given: what each asks of the model, and the refusal of one that cannot be honoured."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import Invalid
from .base import ModelInfo, Parameters

NOT_SUPPORTED = "parameter_not_supported"

EFFORT, BUDGET, SAMPLING, SCHEMA = "effort", "thinking_budget", "sampling", "json_schema"
"""Capabilities that parameters ask for."""

_SAMPLING = ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "logit_bias")


def not_supported(field: str, detail: str) -> Invalid:
    """The refusal of a parameter that cannot be said, or not to this model; ``field`` names it."""
    return Invalid(field, detail, code=NOT_SUPPORTED)


def check_capabilities(info: ModelInfo, name: str, parameters: Parameters) -> None:
    """Raises Invalid, which names the parameter, for one that the model is known not to have. ``name``: its full name.

    A model that reasons may be sampled while it is told not to reason: what it takes then is for the vendor to say.
    """
    for field, capability in _asked(parameters):
        if not info.can(capability):
            raise not_supported(field, f"{name} does not have it")


def _asked(parameters: Parameters) -> Iterator[tuple[str, str]]:
    """The parameters that are given and need something of the model, with what they need."""
    reasoning, form = parameters.reasoning, parameters.response_format
    if reasoning is None or reasoning.effort != "none":
        yield from ((field, SAMPLING) for field in _SAMPLING if getattr(parameters, field) is not None)
    if reasoning is not None:
        yield ("reasoning.effort", EFFORT) if reasoning.effort is not None else ("reasoning.budget_tokens", BUDGET)
    if form is not None and form.type == "json_schema":
        yield "response_format", SCHEMA
