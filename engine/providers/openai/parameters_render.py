"""Parameters in OpenAI's two protocols: pure, as the renderers that they belong to.

What a protocol has no word for is refused by name: in Chat Completions the budget of tokens for reasoning, and, where
OpenAI itself is asked, ``top_k``, which other servers of the protocol know; in Responses also the seed, the penalties
and the logit bias. A schema stands in a request as it was given, to the byte.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..base import Parameters, ResponseFormat
from ..parameters import not_supported

ANSWER = "answer"
"""The name of a schema that has none: the vendor demands one."""


def number(value: float) -> msgspec.Raw:
    """A number as Python writes it: its shortest form is fixed, an encoder's need not be."""
    return msgspec.Raw(repr(float(value)).encode())


def chat_parameters(parameters: Parameters, *, is_vendors: bool, has_tools: bool) -> dict[str, Any]:
    """The parameters of Chat Completions that came after its first ones. ``is_vendors``: for OpenAI itself. Raises
    Invalid, which names the parameter, for one that cannot be said.
    """
    if parameters.top_k is not None and is_vendors:
        raise not_supported("top_k", "OpenAI's Chat Completions API has no such parameter")
    rendered = _sampling(parameters)
    if parameters.top_k is not None:
        rendered["top_k"] = parameters.top_k
    if parameters.seed is not None:
        rendered["seed"] = parameters.seed
    for name in ("presence_penalty", "frequency_penalty"):
        value = getattr(parameters, name)
        if value is not None:
            rendered[name] = number(value)
    if parameters.logit_bias is not None:
        rendered["logit_bias"] = {token: _short(bias) for token, bias in parameters.logit_bias.items()}
    form = parameters.response_format
    if form is not None:
        given = {"json_schema": _schema(form)} if form.type == "json_schema" else {}
        rendered["response_format"] = {"type": form.type, **given}
    effort = _effort(parameters, "Chat Completions")
    if effort is not None:
        rendered["reasoning_effort"] = effort
    return rendered | _parallel(parameters, has_tools=has_tools)


def responses_parameters(parameters: Parameters, *, has_tools: bool) -> dict[str, Any]:
    """The parameters of Responses that came after its first ones. Raises Invalid, which names the parameter, for one
    that cannot be said.
    """
    for name in ("top_k", "seed", "presence_penalty", "frequency_penalty", "logit_bias"):
        if getattr(parameters, name) is not None:
            raise not_supported(name, "OpenAI's Responses API has no such parameter")
    rendered = _sampling(parameters)
    form = parameters.response_format
    if form is not None:
        given = _schema(form) if form.type == "json_schema" else {}
        rendered["text"] = {"format": {"type": form.type, **given}}
    effort = _effort(parameters, "Responses")
    if effort is not None:
        rendered["reasoning"] = {"effort": effort}
    return rendered | _parallel(parameters, has_tools=has_tools)


def _sampling(parameters: Parameters) -> dict[str, Any]:
    return {} if parameters.top_p is None else {"top_p": number(parameters.top_p)}


def _parallel(parameters: Parameters, *, has_tools: bool) -> dict[str, Any]:
    """Without tools the vendor refuses it."""
    given = parameters.parallel_tool_calls
    return {} if given is None or not has_tools else {"parallel_tool_calls": given}


def _effort(parameters: Parameters, api: str) -> str | None:
    reasoning = parameters.reasoning
    if reasoning is None:
        return None
    if reasoning.budget_tokens is not None:
        raise not_supported("reasoning.budget_tokens", f"OpenAI's {api} API has an effort, and no budget of tokens")
    return reasoning.effort


def _schema(form: ResponseFormat) -> dict[str, Any]:
    described = {} if form.description is None else {"description": form.description}
    strict = {} if form.strict is None else {"strict": form.strict}
    return {"name": form.name or ANSWER, **described, "schema": form.schema, **strict}


def _short(bias: float) -> int | msgspec.Raw:
    """A whole number without a point, as the vendor's own types have it."""
    return int(bias) if float(bias).is_integer() else number(bias)
