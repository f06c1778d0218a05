"""Parameters that callers give a model: every refusal names its field, and what is let in is what was given."""

import msgspec
import pytest

from manent.engine.errors import EngineError, TooLarge
from manent.engine.providers.base import Parameters, Reasoning, ResponseFormat
from manent.engine.service.generation import read_parameters
from manent.engine.settings import Settings

SETTINGS = Settings(max_schema_bytes=100, max_budget_tokens=5000)
CYCLE = {"type": "object"}
CYCLE["properties"] = CYCLE


def schema(given=None, **fields):
    return {"response_format": {"type": "json_schema", "schema": {} if given is None else given} | fields}


GOOD = {
    "nothing": ({}, Parameters()),
    "nulls": (dict.fromkeys(Parameters.__struct_fields__[4:]), Parameters()),
    "whole numbers": (
        {"top_p": 1, "presence_penalty": -2, "frequency_penalty": 2},
        Parameters(top_p=1.0, presence_penalty=-2.0, frequency_penalty=2.0),
    ),
    "the largest": ({"top_k": 2**31 - 1, "seed": 2**63 - 1}, Parameters(top_k=2**31 - 1, seed=2**63 - 1)),
    "the least": ({"top_k": 1, "seed": -(2**63)}, Parameters(top_k=1, seed=-(2**63))),
    "biases": ({"logit_bias": {"0": 100, "999999999": -100}}, Parameters(logit_bias={"0": 100.0, "999999999": -100.0})),
    "no biases": ({"logit_bias": {}}, Parameters(logit_bias={})),
    "text": ({"response_format": {"type": "text"}}, Parameters(response_format=ResponseFormat("text"))),
    "an object": (
        {"response_format": {"type": "json_object", "name": None}},
        Parameters(response_format=ResponseFormat("json_object")),
    ),
    "a schema": (
        schema({"b": 1, "a": [1.5]}, name="x-1_y", strict=False, description="Grüße"),
        Parameters(
            response_format=ResponseFormat("json_schema", "x-1_y", msgspec.Raw(b'{"b":1,"a":[1.5]}'), False, "Grüße")
        ),
    ),
    "an effort": ({"reasoning": {"effort": "max"}}, Parameters(reasoning=Reasoning("max"))),
    "a budget": ({"reasoning": {"budget_tokens": 5000}}, Parameters(reasoning=Reasoning(budget_tokens=5000))),
    "one at a time": ({"parallel_tool_calls": False}, Parameters(parallel_tool_calls=False)),
    "a stop": ({"stop": "END", "temperature": 0}, Parameters(stop=("END",), temperature=0)),
}


@pytest.mark.parametrize(("given", "parameters"), GOOD.values(), ids=GOOD)
def test_what_is_let_in_is_what_was_given(given, parameters):
    """In one form each, whatever form it came in."""
    assert read_parameters(given, SETTINGS) == parameters


BAD = {
    "top_p as text": ({"top_p": "1"}, "top_p"),
    "a true top_p": ({"top_p": True}, "top_p"),
    "top_p that is no number": ({"top_p": float("nan")}, "top_p"),
    "top_p below": ({"top_p": -0.01}, "top_p"),
    "no top_k": ({"top_k": 0}, "top_k"),
    "half a top_k": ({"top_k": 1.5}, "top_k"),
    "a true seed": ({"seed": True}, "seed"),
    "a seed beyond": ({"seed": 2**63}, "seed"),
    "a penalty beyond": ({"presence_penalty": 2.5}, "presence_penalty"),
    "another penalty beyond": ({"frequency_penalty": float("inf")}, "frequency_penalty"),
    "biases in a list": ({"logit_bias": [[1, 2]]}, "logit_bias"),
    "too many biases": ({"logit_bias": {str(token): 1 for token in range(1025)}}, "logit_bias"),
    "a bias of a word": ({"logit_bias": {"sea": 1}}, "logit_bias"),
    "a bias of a number": ({"logit_bias": {7: 1}}, "logit_bias"),
    "a bias beyond": ({"logit_bias": {"7": 101}}, "logit_bias.7"),
    "a format as text": ({"response_format": "text"}, "response_format"),
    "no type": ({"response_format": {}}, "response_format.type"),
    "an unhashable type": ({"response_format": {"type": []}}, "response_format.type"),
    "another type": ({"response_format": {"type": "xml"}}, "response_format.type"),
    "another field": ({"response_format": {"type": "text", "x": 1}}, "response_format.x"),
    "a schema of text": ({"response_format": {"type": "text", "schema": {}}}, "response_format.schema"),
    "no schema": ({"response_format": {"type": "json_schema"}}, "response_format.schema"),
    "a schema that is none": (schema([1]), "response_format.schema"),
    "a schema as broken JSON": (schema(msgspec.Raw(b"{")), "response_format.schema"),
    "a schema that is no JSON": (schema({"x": object()}), "response_format.schema"),
    "a schema with a NUL": (schema({"x": "\0"}), "response_format.schema.x"),
    "a schema in itself": (schema(CYCLE), "response_format.schema"),
    "a large schema": (schema({"x": "x" * 100}), "response_format.schema"),
    "a name with spaces": (schema(name="a b"), "response_format.name"),
    "a name of nothing": (schema(name=""), "response_format.name"),
    "a large description": (schema(description="ü" * 51), "response_format.description"),
    "a description that is none": (schema(description=7), "response_format.description"),
    "half strict": (schema(strict="yes"), "response_format.strict"),
    "reasoning as text": ({"reasoning": "high"}, "reasoning"),
    "reasoning of nothing": ({"reasoning": {}}, "reasoning"),
    "reasoning of both": ({"reasoning": {"effort": "low", "budget_tokens": 1}}, "reasoning"),
    "another effort": ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
    "no budget": ({"reasoning": {"budget_tokens": 0}}, "reasoning.budget_tokens"),
    "a budget beyond": ({"reasoning": {"budget_tokens": 5001}}, "reasoning.budget_tokens"),
    "perhaps parallel": ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
}


@pytest.mark.parametrize(("given", "field"), BAD.values(), ids=BAD)
def test_a_refusal_names_its_field(given, field):
    """Whatever is wrong with it."""
    with pytest.raises(EngineError) as refusal:
        read_parameters(given, SETTINGS)
    assert refusal.value.extra["field"] == field
    assert refusal.value.detail.startswith(f"{field}: ")
    assert isinstance(refusal.value, TooLarge) == ("max_schema_bytes" in refusal.value.detail)
