"""Parameters in Anthropic's Messages API: pure, as the renderers that they belong to.

* A reasoning effort is adaptive thinking at that effort, ``none`` no thinking; a budget is thinking with that budget.
  All of it needs room in the limit of the answer.
* A schema is the format of the answer, and stands there as it was given, to the byte. Its name is not said, since the
  vendor knows none; an answer of it is always strict.
* Forbidding parallel calls belongs to the choice of tools.

What the protocol has no word for is refused by name: the seed, the penalties, the logit bias, ``json_object``, the
description of a schema, and ``minimal`` effort.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...errors import Invalid
from ..base import Parameters, Reasoning, ResponseFormat
from ..parameters import not_supported

MAX_TEMPERATURE = 1
NO_WORD = "Anthropic's Messages API has no such parameter"
_UNKNOWN = ("seed", "presence_penalty", "frequency_penalty", "logit_bias")


def number(value: float) -> msgspec.Raw:
    """A number as Python writes it: its shortest form is fixed, an encoder's need not be."""
    return msgspec.Raw(repr(float(value)).encode())


def check_values(parameters: Parameters) -> None:
    """Raises Invalid, which names the parameter, for a value that the API refuses. Its renderers say one, or leave it
    out: what was recorded so is derived again for ever.
    """
    if parameters.temperature is not None and parameters.temperature > MAX_TEMPERATURE:
        raise not_supported("temperature", f"Anthropic's Messages API takes 0 to {MAX_TEMPERATURE}")
    for number, sequence in enumerate(parameters.stop):
        if not sequence.strip():
            raise not_supported(f"stop[{number}]", "Anthropic's Messages API takes none of white space alone")


def later_parameters(parameters: Parameters, max_tokens: int) -> dict[str, Any]:
    """The parameters that came after the first ones. Raises Invalid, which names the parameter, for one that cannot be
    said.
    """
    for name in _UNKNOWN:
        if getattr(parameters, name) is not None:
            raise not_supported(name, NO_WORD)
    rendered: dict[str, Any] = {}
    if parameters.top_p is not None:
        rendered["top_p"] = number(parameters.top_p)
    if parameters.top_k is not None:
        rendered["top_k"] = parameters.top_k
    thinking, output = _thinking(parameters.reasoning, max_tokens), _output(parameters)
    if thinking:
        rendered["thinking"] = thinking
    if output:
        rendered["output_config"] = output
    return rendered


def with_parallel(choice: dict[str, Any] | None, parameters: Parameters) -> dict[str, Any] | None:
    """A choice of tools that also says if several may be called at once; None: nothing was chosen."""
    if parameters.parallel_tool_calls is None or parameters.tool_choice == "none":
        return choice
    return {**(choice or {"type": "auto"}), "disable_parallel_tool_use": not parameters.parallel_tool_calls}


def _thinking(reasoning: Reasoning | None, max_tokens: int) -> dict[str, Any]:
    if reasoning is None:
        return {}
    budget = reasoning.budget_tokens
    if budget is None:
        return {"type": "disabled"} if reasoning.effort == "none" else {"type": "adaptive"}
    if budget >= max_tokens:
        raise Invalid("reasoning.budget_tokens", f"must be less than the limit of the answer, {max_tokens} tokens")
    return {"type": "enabled", "budget_tokens": budget}


def _output(parameters: Parameters) -> dict[str, Any]:
    effort = None if parameters.reasoning is None else parameters.reasoning.effort
    if effort == "minimal":
        raise not_supported("reasoning.effort", "Anthropic's Messages API has none, low, medium, high, xhigh and max")
    output: dict[str, Any] = {} if effort in {None, "none"} else {"effort": effort}
    form = parameters.response_format
    return output if form is None else output | _format(form)


def _format(form: ResponseFormat) -> dict[str, Any]:
    if form.type == "json_object":
        raise not_supported("response_format.type", "Anthropic's Messages API has text and json_schema")
    if form.description is not None:
        raise not_supported("response_format.description", NO_WORD)
    return {"format": {"type": "json_schema", "schema": form.schema}} if form.type == "json_schema" else {}
