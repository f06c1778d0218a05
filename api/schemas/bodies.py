"""Bodies of requests on native routes and on the guide's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, UnsetType

from ...engine import Effort, FormatType, ToolSchema
from ..http.errors import invalid
from .parameters import Count, Model

Blocks = tuple[msgspec.Raw, ...]

Time = Annotated[datetime, Meta(tz=True)]


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body of a native route: unknown fields are refused with their name."""

    @classmethod
    def kinds(cls) -> Iterator[type[Body]]:
        """The bodies that there are, and what they have in common."""
        for kind in cls.__subclasses__():
            yield kind
            yield from kind.kinds()


class NothingIn(Body, frozen=True):
    """No field at all."""


class SessionIn(Body, frozen=True):
    model: Model | None = None
    system: str | None = None
    title: str | None = None
    metadata: dict[str, Any] | None = None
    budget_tokens: Count | None = None
    max_output_tokens: Count | None = None
    fallback_model: Model | None = None
    allowed_tools: tuple[str, ...] | None = None
    user_id: str | None = None
    agent_id: str | None = None
    expires_at: Time | None = None
    ttl_s: Count | None = None
    max_messages: Count | None = None
    max_tokens: Count | None = None


class SessionFields(Body, frozen=True):
    """Fields of a session that are set: only those given; null sets null. ``ttl_s`` goes without ``expires_at``."""

    model: Model | UnsetType | None = msgspec.UNSET
    system: str | UnsetType | None = msgspec.UNSET
    title: str | UnsetType | None = msgspec.UNSET
    metadata: dict[str, Any] | UnsetType | None = msgspec.UNSET
    budget_tokens: Count | UnsetType | None = msgspec.UNSET
    max_output_tokens: Count | UnsetType | None = msgspec.UNSET
    fallback_model: Model | UnsetType | None = msgspec.UNSET
    allowed_tools: tuple[str, ...] | UnsetType | None = msgspec.UNSET
    user_id: str | UnsetType | None = msgspec.UNSET
    agent_id: str | UnsetType | None = msgspec.UNSET
    expires_at: Time | UnsetType | None = msgspec.UNSET
    ttl_s: Count | UnsetType = msgspec.UNSET
    max_messages: Count | UnsetType | None = msgspec.UNSET
    max_tokens: Count | UnsetType | None = msgspec.UNSET


class ForkIn(SessionFields, frozen=True):
    """``version``: up to which the history is shared, by default the last. Fields that are not given are inherited, but
    for ``expires_at`` and the bounds.
    """

    version: Count | None = None


class SessionPatch(SessionFields, frozen=True):
    """Only the fields given are changed; null sets null. ``ttl_s`` goes without ``expires_at``."""

    status: Literal["active", "archived"] | UnsetType = msgspec.UNSET
    legal_hold: bool | UnsetType = msgspec.UNSET


class EraseIn(Body, frozen=True):
    """``versions`` absent: all that the session holds."""

    reason: Annotated[str, Meta(min_length=1, max_length=1000)]
    versions: Annotated[tuple[Count, ...], Meta(min_length=1, max_length=10_000)] | None = None


class OneMessage(Body, frozen=True):
    content: str | Blocks
    role: str = "user"


class MessagesIn(Body, frozen=True):
    """One message (``role``, ``content``), or several at once (``messages``): all are appended, or none."""

    role: str | UnsetType = msgspec.UNSET
    content: str | Blocks | UnsetType = msgspec.UNSET
    messages: Annotated[tuple[OneMessage, ...], Meta(min_length=1)] | UnsetType = msgspec.UNSET


class Function(Body, frozen=True):
    """A function that a model may call: ``parameters`` is a JSON Schema of type object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | UnsetType = msgspec.UNSET
    strict: bool | None = None


class ClientTool(Body, frozen=True):
    """A tool that the caller runs: ``parameters`` is a JSON Schema of type object, none at all means no parameters. The
    vendors' forms are taken too: ``input_schema``, and ``{"type": "function", "function": {…}}``. ``strict``: the
    vendor is to see to it that calls keep to the schema.
    """

    name: str | UnsetType = msgspec.UNSET
    description: str = ""
    parameters: dict[str, Any] | UnsetType = msgspec.UNSET
    input_schema: dict[str, Any] | UnsetType = msgspec.UNSET
    strict: bool | None = None
    type: Literal["function", "custom"] | UnsetType = msgspec.UNSET
    function: Function | UnsetType = msgspec.UNSET

    def schema(self, where: str) -> ToolSchema:
        """Raises Problem for what is in neither form, or in both."""
        if self.function is not msgspec.UNSET:
            beside = (self.name, self.parameters, self.input_schema)
            if self.description or self.strict is not None or any(each is not msgspec.UNSET for each in beside):
                raise invalid(
                    f"{where}.function", "goes without name, description, parameters, input_schema and strict"
                )
            function = self.function
            parameters = _parameters_or_none(function.parameters)
            return ToolSchema(function.name, function.description, parameters, function.strict)
        if self.name is msgspec.UNSET:
            raise invalid(f"{where}.name", "is required", "missing_field")
        if self.parameters is not msgspec.UNSET and self.input_schema is not msgspec.UNSET:
            raise invalid(f"{where}.input_schema", "goes without parameters")
        given = self.input_schema if self.parameters is msgspec.UNSET else self.parameters
        return ToolSchema(self.name, self.description, _parameters_or_none(given), self.strict)


def _parameters_or_none(given: dict[str, Any] | UnsetType) -> dict[str, Any]:
    return {"type": "object", "properties": {}} if given is msgspec.UNSET else given


class DecisionIn(Body, frozen=True):
    """A person's word on a tool call that waits for it."""

    tool_use_id: str
    approve: bool
    reason: str | None = None


class JsonSchema(Body, frozen=True):
    """A JSON Schema that an answer must be of."""

    schema: dict[str, Any]
    name: str | None = None
    strict: bool | None = None
    description: str | None = None


class ResponseFormatIn(Body, frozen=True):
    """The form of an answer. A schema goes with ``json_schema`` alone; OpenAI's form is taken too, in which it stands
    with its name in an object of its own.
    """

    type: FormatType
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None
    json_schema: JsonSchema | UnsetType = msgspec.UNSET

    def option(self) -> dict[str, Any]:
        """The option of a turn. Raises Problem for a schema that is given twice."""
        given = {name: getattr(self, name) for name in ("name", "schema", "strict", "description")}
        if self.json_schema is not msgspec.UNSET:
            if any(value is not None for value in given.values()):
                raise invalid("response_format.json_schema", "goes without name, schema, strict and description")
            given = {name: getattr(self.json_schema, name) for name in given}
        return {"type": self.type, **given}


class ReasoningIn(Body, frozen=True):
    """The reasoning that a model is asked for: an effort, or a budget in tokens; one of the two."""

    effort: Effort | None = None
    budget_tokens: Count | None = None


class TurnIn(Body, frozen=True, rename={"continues": "continue"}):
    """``content`` is short for ``message: {role: "user", content}``; ``continue`` goes on with a partial answer.
    ``tools`` names registered tools; ``tool_choice`` is ``auto``, ``any``, ``none`` or the name of a tool;
    ``logit_bias`` is -100 to 100 by the number of a token. What the model does not have is refused by name. With
    ``from_version`` the session is forked at that version first, and the turn runs in the fork.
    """

    content: str | Blocks | None = None
    message: OneMessage | None = None
    model: Model | None = None
    max_output_tokens: Count | None = None
    budget_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Count | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    response_format: ResponseFormatIn | None = None
    reasoning: ReasoningIn | None = None
    parallel_tool_calls: bool | None = None
    task: str | None = None
    stop: str | tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    client_tools: tuple[ClientTool, ...] = ()
    tool_choice: str | None = None
    on_disconnect: Literal["continue", "cancel"] = "continue"
    continues: bool = False
    from_version: Count | None = None
    stream: bool | None = None


class ReplayWhereIn(Body, frozen=True):
    """Conditions by which sessions are found; of these, the turns that started at or after ``since`` and before
    ``until``.
    """

    model: Model | None = None
    status: Literal["active", "archived"] | None = None
    since: Time | None = None
    until: Time | None = None
    title_contains: str | None = None


class LiveToolsIn(Body, frozen=True):
    """The tools that run; all other calls are answered from the record."""

    live: Annotated[tuple[str, ...], Meta(min_length=1)]


class ReplayIn(Body, frozen=True):
    """One of ``sessions``, ``turns``, ``suite`` and ``where`` says what is done again. ``mode``: by default ``forced``
    where a ``model`` is named, else ``recorded``. ``model``: by default each turn's own.
    """

    sessions: tuple[UUID, ...] = ()
    turns: tuple[UUID, ...] = ()
    suite: str | None = None
    where: ReplayWhereIn | None = None
    mode: Literal["recorded", "forced", "free"] | None = None
    model: Model | None = None
    repeat: Annotated[int, Meta(ge=0, le=20)] = 0
    tools: Literal["recorded", "refuse"] | LiveToolsIn = "recorded"
    jobs: Count | None = None
    max_turns: Count | None = None
    max_cost_micros: Count | None = None


class AcceptIn(Body, frozen=True):
    """``results``: ids of recorded turns, whose new answers are the reference from now on."""

    results: Annotated[tuple[UUID, ...], Meta(min_length=1, max_length=10_000)]


class SuiteItemIn(Body, frozen=True):
    """A recorded turn. ``session_id``: the session that it stands in, or a fork that shares it."""

    turn_id: UUID
    session_id: UUID | None = None


class SuiteItemsIn(Body, frozen=True):
    """The turns that a suite holds from now on."""

    items: tuple[SuiteItemIn, ...]


class SuiteIn(Body, frozen=True):
    """A new suite: its ``name``, and the turns that it holds."""

    name: Annotated[str, Meta(min_length=1)]
    items: tuple[SuiteItemIn, ...] = ()


class TicketIn(Body, frozen=True):
    path: Annotated[str, Meta(min_length=1, max_length=2048)]


class TokensIn(Body, frozen=True):
    model: Model
    content: str | Blocks


ModelOrEmpty = Annotated[str, Meta(max_length=200)]


class CompleteIn(msgspec.Struct, frozen=True):
    """``model`` and ``system``: empty means absent, as in the guide's language."""

    message: str
    model: ModelOrEmpty | None = None
    system: str | None = None


class ChatIn(msgspec.Struct, frozen=True):
    """``session_id``, ``model`` and ``system``: empty means absent, as in the guide's language."""

    message: str
    session_id: str | None = None
    model: ModelOrEmpty | None = None
    system: str | None = None
