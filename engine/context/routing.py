"""The choice of a route's model: the first in the route's order for which the round can be planned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ..errors import BudgetTooSmall, ContentNotSupported, Invalid, Refused
from ..events.blocks import ImageBlock, ToolSchema
from ..events.types import NewMessage
from ..providers.base import Parameters
from ..providers.parameters import NOT_SUPPORTED, not_supported
from ..providers.registry import ResolvedModel
from ..providers.routes import Asked, Candidate, RouteProvider

Planned = TypeVar("Planned")


def asked_of(parameters: Parameters, tools: Sequence[ToolSchema], new: NewMessage | None, task: str | None) -> Asked:
    """What a turn asks for, as far as a route looks at it."""
    form = parameters.response_format
    return Asked(
        task=task,
        images=new is not None and any(isinstance(block, ImageBlock) for block in new.content),
        tools=bool(tools),
        json=form is not None and form.type != "text",
        reasoning=parameters.reasoning is not None and parameters.reasoning.effort != "none",
        tokens=0 if new is None else new.tokens,
    )


def plan_routed(
    model: ResolvedModel, asked: Asked, plan: Callable[[ResolvedModel], Planned]
) -> tuple[Planned, Candidate | None]:
    """Plan with a model; with the first that can do what is asked, if it is a route. Raises the refusal of the first if
    none can, and Invalid for a task that no route looks at.
    """
    provider = model.provider
    if not isinstance(provider, RouteProvider):
        if asked.task is not None:
            raise not_supported("task", f"goes with a route, and {model.name} is a model")
        return plan(model), None
    refusal: Refused | None = None
    for candidate in provider.candidates(model.info.name, asked):
        try:
            planned = plan(candidate.model)
        except Refused as error:
            if not _is_of_the_model(error):
                raise
            refusal = refusal or error
        else:
            candidate.route.take(candidate.index)
            return planned, candidate
    assert refusal is not None, "a route has a model"
    raise refusal


def give_back(chosen: Candidate | None) -> None:
    """Note that nothing will be sent to the model that was chosen."""
    if chosen is not None:
        chosen.route.give_back(chosen.index)


def _is_of_the_model(error: Refused) -> bool:
    """True if another model might take it."""
    return isinstance(error, ContentNotSupported | BudgetTooSmall) or (
        isinstance(error, Invalid) and error.code == NOT_SUPPORTED
    )
