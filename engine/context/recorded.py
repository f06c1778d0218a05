"""The parameters of a request as they are recorded with its attempt, and again from there. Pure.

Facts take numbers and words of closed lists: numbers with a fraction as decimal text, in their shortest form, and so
the seed, which may be larger than a fact's number can be. What a client has written itself - stop sequences, a schema
and its name, the tokens of a bias - stands in the attempt's body, and falls with an erasure.
"""

from __future__ import annotations

from typing import Any

from ..events.turn_types import AnswerWords, AttemptStarted, AttemptWords
from ..providers.base import Parameters, Reasoning, ResponseFormat

_FRACTIONS = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
_PLAIN = ("max_output_tokens", "top_k", "parallel_tool_calls")


def parameter_facts(parameters: Parameters) -> dict[str, Any]:
    """The fields of ``AttemptStarted`` for these parameters, without the choice of tools."""
    fractions = {name: _decimal(getattr(parameters, name)) for name in _FRACTIONS}
    form, reasoning = parameters.response_format, parameters.reasoning or Reasoning()
    return {
        **fractions,
        **{name: getattr(parameters, name) for name in _PLAIN},
        "seed": None if parameters.seed is None else str(parameters.seed),
        "response_format": None if form is None else form.type,
        "reasoning_effort": reasoning.effort,
        "reasoning_budget_tokens": reasoning.budget_tokens,
    }


def parameter_words(parameters: Parameters) -> dict[str, Any]:
    """The fields of ``AttemptWords`` for these parameters, without the choice of tools."""
    form = parameters.response_format
    answer = None
    if form is not None and form.type == "json_schema":
        answer = AnswerWords(form.schema, form.name, form.strict, form.description)
    return {"stop": parameters.stop, "logit_bias": parameters.logit_bias, "answer": answer}


def parameters_of(facts: AttemptStarted, words: AttemptWords) -> Parameters:
    """The parameters of a recorded request: those that facts hold, and those that are words."""
    return Parameters(
        max_output_tokens=facts.max_output_tokens,
        temperature=_number(facts.temperature),
        stop=words.stop,
        tool_choice=words.tool_choice or facts.tool_choice,
        top_p=_number(facts.top_p),
        top_k=facts.top_k,
        presence_penalty=_number(facts.presence_penalty),
        frequency_penalty=_number(facts.frequency_penalty),
        parallel_tool_calls=facts.parallel_tool_calls,
        seed=None if facts.seed is None else int(facts.seed),
        logit_bias=words.logit_bias,
        response_format=_format(facts, words.answer),
        reasoning=_reasoning(facts),
    )


def _format(facts: AttemptStarted, said: AnswerWords | None) -> ResponseFormat | None:
    """The form of an answer. A schema that is erased leaves none: there is nothing of it that could be sent."""
    if facts.response_format is None or (facts.response_format == "json_schema" and said is None):
        return None
    said = said or AnswerWords()
    return ResponseFormat(facts.response_format, said.name, said.schema, said.strict, said.description)


def _reasoning(facts: AttemptStarted) -> Reasoning | None:
    effort, budget = facts.reasoning_effort, facts.reasoning_budget_tokens
    return None if effort is None and budget is None else Reasoning(effort, budget)


def _decimal(value: float | None) -> str | None:
    return None if value is None else repr(value)


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
