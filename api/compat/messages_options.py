"""The options of a turn that a request of Anthropic's Messages asks for, and the client's names of their fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

from ...engine import ToolSchema, TurnOptions
from ..http.errors import Problem, invalid
from .fields import NOT_HERE
from .messages_forms import CountIn, MessagesIn, ToolChoice

ADAPTIVE_EFFORT = "high"
"""The effort that the vendor takes where adaptive thinking comes without one."""

EFFORT = "effort"
"""The capability of models that can be told how hard to think."""

_MESSAGE = re.compile(r"messages\[(?P<number>\d+)\](?P<rest>.*)", re.DOTALL)
_TOOL = re.compile(r"client_tools\[(?P<number>\d+)\](?P<rest>.*)", re.DOTALL)

Can = Callable[[str], bool]


def options_of(body: CountIn, tools: Sequence[ToolSchema], can: Can) -> TurnOptions:
    """The options of the turn. ``can``: if the model has a capability. Raises Problem."""
    options: dict[str, Any] = {"model": body.model, "client_tools": tuple(tools)}
    options |= _choice(body.tool_choice, tools) | _reasoning(body, can)
    if body.output_config is not None and body.output_config.format is not None:
        options["response_format"] = {"type": "json_schema", "schema": body.output_config.format.schema}
    if isinstance(body, MessagesIn):
        options |= {"max_output_tokens": body.max_tokens, "stop": body.stop_sequences or ()} | _sampling(body)
    return cast("TurnOptions", options)


def _sampling(body: MessagesIn) -> dict[str, Any]:
    """The sampling parameters. Raises Problem."""
    if body.temperature is not None and not 0 <= body.temperature <= 1:
        raise invalid("temperature", "must be from 0 to 1")
    return {"temperature": body.temperature, "top_p": body.top_p, "top_k": body.top_k}


def _reasoning(body: CountIn, can: Can) -> dict[str, Any]:
    """The reasoning that is asked for: by a budget, or by an effort, which is adaptive thinking. A model that knows no
    effort does not think unless it is told to, so that nothing is said to it of thinking that is disabled.
    """
    thinking, output = body.thinking, body.output_config
    effort = None if output is None else output.effort
    if thinking is None:
        if effort is not None:
            raise _not_here("output_config.effort", "goes with thinking of type adaptive here")
        return {}
    if thinking.type == "adaptive":
        return {"reasoning": {"effort": effort or ADAPTIVE_EFFORT}} | _without_budget(thinking.budget_tokens)
    if effort is not None:
        raise _not_here("output_config.effort", f"goes with adaptive thinking here, and not with {thinking.type}")
    if thinking.type == "enabled":
        if thinking.budget_tokens is None:
            raise invalid("thinking.budget_tokens", "is required", "missing_field")
        return {"reasoning": {"budget_tokens": thinking.budget_tokens}}
    return ({"reasoning": {"effort": "none"}} if can(EFFORT) else {}) | _without_budget(thinking.budget_tokens)


def _without_budget(budget_tokens: int | None) -> dict[str, Any]:
    if budget_tokens is not None:
        raise invalid("thinking.budget_tokens", "goes with thinking of type enabled")
    return {}


def _choice(choice: ToolChoice | None, tools: Sequence[ToolSchema]) -> dict[str, Any]:
    """The choice among the tools. Raises Problem for one that there is nothing to choose from for."""
    if choice is None:
        return {}
    if (choice.name is not None) != (choice.type == "tool"):
        raise invalid("tool_choice.name", "goes with type tool, and has to")
    if not tools:
        if choice.type in {"auto", "none"}:
            return {}
        raise invalid("tool_choice", "needs tools")
    if choice.name is not None and choice.name not in {tool.name for tool in tools}:
        raise invalid("tool_choice.name", "is none of the tools")
    found: dict[str, Any] = {"tool_choice": choice.name or choice.type}
    if choice.disable_parallel_tool_use is not None:
        found["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    return found


def _not_here(field: str, detail: str) -> Problem:
    return Problem(400, NOT_HERE, f"{field}: {detail}", field=field)


# --- names ------------------------------------------------------------------------------------------------------------


def theirs(field: str, clients: Sequence[int], plain: Collection[int] = ()) -> str:
    """The client's name of one of the engine's fields. ``clients``: the numbers of the client's messages, by those of
    the engine's; ``plain``: those whose content is a text.
    """
    if match := _MESSAGE.fullmatch(field):
        number = int(match["number"])
        place = clients[number] if number < len(clients) else number
        rest = ".content" if place in plain and match["rest"].startswith(".content") else match["rest"]
        return f"messages[{place}]{rest}"
    if match := _TOOL.fullmatch(field):
        return f"tools[{match['number']}]{match['rest']}".replace("].parameters", "].input_schema")
    if field.startswith("stop["):
        return field.replace("stop[", "stop_sequences[")
    return _THEIRS.get(field, field)


_THEIRS = {
    "budget_tokens": "messages",
    "client_tools": "tools",
    "content": "messages",
    "max_output_tokens": "max_tokens",
    "message.role": "messages",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "reasoning": "thinking",
    "reasoning.budget_tokens": "thinking.budget_tokens",
    "reasoning.effort": "thinking",
    "response_format": "output_config.format",
    "response_format.schema": "output_config.format.schema",
    "stop": "stop_sequences",
    "user_id": "metadata.user_id",
}
