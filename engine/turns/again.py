"""A recorded turn, done once more: with the parameters, the tools' schemas and, if they fit, the very messages that its
first attempt was sent.
"""

from __future__ import annotations

import msgspec

from ..context.plan import RequestPlan, ToolOffer
from ..context.prompt import Limits
from ..providers.base import Parameters
from ..providers.registry import ResolvedModel
from ..sessions.decisions import ReplayOrigin
from ..tools.runner import ToolRunner
from .turn import Runtime


class Again(msgspec.Struct, frozen=True):
    """How a turn is done once more. ``tools``: what answers its calls; ``origin``: the replay that forks for it;
    ``positions``: the messages to send, None: they are chosen.
    """

    parameters: Parameters
    offer: ToolOffer
    tools: ToolRunner
    origin: ReplayOrigin | None = None
    positions: tuple[int, ...] | None = None

    def plan(self, model: ResolvedModel, limits: Limits) -> RequestPlan:
        """The plan of its requests. There is no fallback model: another one would answer something else."""
        return RequestPlan(model, limits, self.parameters, self.offer)


def again_runtime(runtime: Runtime, again: Again | None) -> Runtime:
    """The runtime of a turn, whose tools are those of the record where it is done once more."""
    return runtime if again is None else msgspec.structs.replace(runtime, tools=again.tools)
