"""Check a request's parameters against its model, before anything is recorded or sent.

A parameter that the model cannot be told is refused by name, and never left out: the catalogue knows some models not to
have it, and the renderer of a protocol knows what the protocol has no word for.
"""

from __future__ import annotations

from ..errors import Invalid
from ..events.blocks import TextBlock, ToolSchema
from ..providers.base import Parameters, Prompt, PromptMessage
from ..providers.parameters import check_capabilities
from ..providers.registry import ResolvedModel
from ..providers.renderers import check_values
from ..providers.routes import RouteProvider

_ANY = (PromptMessage("user", (TextBlock("?"),)),)


def check_parameters(model: ResolvedModel, parameters: Parameters) -> None:
    """Raises Invalid, which names the parameter, for one that the model is known not to have, or for a value that it
    does not take.
    """
    check_capabilities(model.info, model.name, parameters)
    if model.figures is None:  # a model of a record has been sent what it was sent
        check_values(model.provider.renderer, parameters)


def refused_parameter(model: ResolvedModel, parameters: Parameters, tools: tuple[ToolSchema, ...]) -> str | None:
    """The parameter that a model cannot be told, if there is one. The renderer is asked, with another prompt."""
    if isinstance(model.provider, RouteProvider):
        return None  # each of its models is asked when one is chosen
    render = model.provider.renderers.get(model.provider.renderer)
    if render is None:
        return None  # a model of a record that was not asked there
    prompt = Prompt(model.info.name, _ANY, tools=tools, parameters=parameters)
    try:
        check_parameters(model, parameters)
        render(prompt)
    except Invalid as refusal:
        return str(refusal.extra["field"])
    return None
