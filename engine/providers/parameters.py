"""Parameters that a model can be given: what each asks of the model, and the refusal of one that cannot be honoured."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import Invalid
from .base import ModelInfo, Parameters

NOT_SUPPORTED = "parameter_not_supported"

EFFORT, BUDGET, SAMPLING, SCHEMA = "effort", "thinking_budget", "sampling", "json_schema"
"""Capabilities that parameters ask for."""

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "temperature": (None, 1),
    "top_p": (None, 1),
    "top_k": (None,),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "logit_bias": (None, {}),
}
"""Sampling parameters, with the values that ask for nothing: vendors take them of models that are not sampled, too."""


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
        yield from ((field, SAMPLING) for field, none in _NEUTRAL.items() if getattr(parameters, field) not in none)
    if reasoning is not None:
        yield ("reasoning.effort", EFFORT) if reasoning.effort is not None else ("reasoning.budget_tokens", BUDGET)
    if form is not None and form.type == "json_schema":
        yield "response_format", SCHEMA
