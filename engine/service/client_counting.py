"""Tokens of a client's whole request: messages, system prompt and tools. Nothing is recorded of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from msgspec.structs import replace

from ..context.content import check_said
from ..context.plan import RequestPlan, ToolOffer, fixed_tokens
from ..context.prompt import Limits
from ..context.routing import asked_of
from ..context.support import check_parameters
from ..errors import ProviderError, TurnNotFound
from ..log.base import Connection
from ..log.store import Store
from ..providers import tokens
from ..providers.base import Counting, Prompt, PromptMessage
from ..providers.registry import ResolvedModel
from ..providers.routes import RouteProvider
from ..sessions import queries
from ..sessions.envelope import Caller
from ..sessions.recognition import Said
from ..turns.start import Ask
from .counting import TokenCount

NO_COUNTS = frozenset({404, 405, 501})
"""Statuses of a server that speaks a vendor's protocol and does not count."""
OPENING_TOKENS = 4
"""What opens a reply; vendors count it, and figures leave it to the reply's reserve."""


def asked_model(model: ResolvedModel, ask: Ask) -> ResolvedModel:
    """The model that would be asked first: a route's first choice."""
    provider = model.provider
    if not isinstance(provider, RouteProvider):
        return model
    asked = asked_of(ask.parameters, ask.client_tools, None, ask.task)
    return next(iter(provider.candidates(model.info.name, asked))).model


def prompt_of_client(
    said: Sequence[Said], system: str | None, ask: Ask, model: ResolvedModel, recorded: int = 0
) -> Prompt:
    """The prompt of a client's request, as it would be rendered; so many messages as ``recorded`` are not its own.
    Raises Invalid and ContentNotSupported for what the model cannot be told.
    """
    tools = ask.client_tools
    parameters = replace(
        ask.parameters,
        max_output_tokens=ask.limits.max_output_tokens,
        tool_choice=ask.tool_choice if tools else None,
        parallel_tool_calls=ask.parameters.parallel_tool_calls if tools else None,
    )
    check_parameters(model, parameters)
    messages = tuple(PromptMessage(role, content) for role, content in said if content)  # type: ignore[arg-type]
    check_said((content for _, content in said), model, recorded)
    return Prompt(model.info.name, messages, system, tools, parameters)


async def count_prompt(store: Store, caller: Caller, model: ResolvedModel, prompt: Prompt) -> TokenCount:
    """Count a prompt: as the vendor does where it counts, else by an estimate that is rather too high than too low.
    Raises ProviderError where a vendor that counts fails to.
    """
    provider = model.provider
    request = provider.renderers[provider.renderer](prompt)
    if isinstance(provider, Counting):
        try:
            return TokenCount(model.name, await provider.count_tokens(request), provider.name, exact=True)
        except ProviderError as error:
            if error.status not in NO_COUNTS:
                raise
    estimate = await store.read(partial(_estimate, tenant=caller.tenant, model=model, prompt=prompt))
    return TokenCount(model.name, estimate, tokens.COUNTER, exact=False)


def _estimate(connection: Connection, *, tenant: str, model: ResolvedModel, prompt: Prompt) -> int:
    """The most that the model may count, by what its family's figures are known to miss."""
    family = tokens.family(model.info.family)
    samples, sent, messages, reported = queries.calibration(connection, tenant, model.recorded)
    factor_permille = tokens.calibrate(family, sent, messages, reported, samples)
    base = sum(tokens.count_content(message.content) for message in prompt.messages)
    beside = RequestPlan(model, Limits(), prompt.parameters, ToolOffer(prompt.tools))
    base += tokens.count_text(prompt.system or "") + fixed_tokens(beside)
    count = len(prompt.messages) + bool(prompt.system)
    return _upward(tokens.figure(base, count, factor_permille, family.overhead), family)


def _upward(figure: int, family: tokens.Family) -> int:
    return -(-figure * (1000 + family.error_permille) // 1000) + OPENING_TOKENS


def input_estimate(connection: Connection, tenant: str, turn: UUID) -> int:
    """Estimate the input tokens of a turn's newest attempt, as it was counted: rather too high than too low. Raises
    TurnNotFound.
    """
    state = queries.turn_state(connection, tenant, turn)
    if state is None:
        raise TurnNotFound("there is no such turn", turn_id=str(turn))
    attempt = state.attempts[-1]
    figure = tokens.figure(attempt.base_tokens, attempt.messages, attempt.factor_permille, attempt.overhead)
    return _upward(figure, tokens.family(tokens.family_of(attempt.named or attempt.model)))
