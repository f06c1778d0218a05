"""A conversation file run on a model, turn by turn, through the engine as anybody would use it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from ...clock import Clock, SystemClock
from ...errors import EngineError, Overloaded, Refused, TurnLimitReached, UnknownModel
from ...providers.assemble import make_providers
from ...providers.base import Provider
from ...providers.registry import Providers
from ...providers.scripted import Fail, Script, ScriptedAnswer, ScriptedProvider, ScriptedStep, read_script
from ...sessions.envelope import LOCAL, Caller
from ...sessions.turn_views import Turn
from ...settings import Settings
from ...tools.base import Tool
from ...tools.builtin import builtin_tools
from ..engine import Engine
from ..session_fields import NewSession
from .base import SCRIPTED, ConversationSpec, Place, ToolSpec, TurnSpec, listed
from .expectations import Found, unmet
from .faults import FaultPlan, FaultyProvider
from .reading import ConversationFile, given, nearest, spec_of
from .tools import ScriptedTool

NO_MORE = ScriptedStep(fail=Fail("provider_rejected", "the file has no further answer to this turn", 400))


class Unmet(msgspec.Struct, frozen=True):
    """An expectation that does not hold: its key, its place in the file, what was expected and what came (UNSET:
    nothing). The key ``fault`` stands for a fault that did not happen.
    """

    expectation: str
    line: int
    column: int
    expected: Any
    came: Any


class TurnCheck(msgspec.Struct, frozen=True):
    """A turn of a conversation file that was run: ``number`` from 1, ``line`` in the file, and ``user``, the words that
    were said. ``failure`` says how the turn failed where that was not expected, ``unmet`` what was expected in vain.
    ``turn`` is None where none was started.
    """

    number: int
    line: int
    user: str
    session_id: UUID
    turn: Turn | None
    seconds: float
    failure: str | None
    unmet: tuple[Unmet, ...]

    @property
    def passed(self) -> bool:
        """True if the turn did not fail unexpectedly, and met every expectation."""
        return self.failure is None and not self.unmet


class ConversationRun:
    """One run of a conversation file. Open an engine with its ``providers`` and ``tools``, and iterate over ``turns``.
    ``model``: the file's, or the one that is given in its place; None: the default one. Given ``tools`` are those that
    the file may name beside the built-in ones; they are among the run's.
    """

    def __init__(
        self, file: ConversationFile, settings: Settings, *, model: str | None = None, tools: Iterable[Tool] = ()
    ) -> None:
        """Raises InvalidConversation for a model or a tool that cannot be, UnknownModel for a given model, and Invalid
        for a setting.
        """
        self.file = file
        self._spec = spec_of(file)
        self._clock: Clock = SystemClock()
        self._plan = FaultPlan(self._spec.faults)
        registered = tuple(tools)
        self._check_scripted_tools([*builtin_tools(self._clock), *registered])
        scripted = (ScriptedTool(tool) for tool in self._spec.tools if isinstance(tool, ToolSpec))
        self.tools: tuple[Tool, ...] = (*registered, *scripted)
        if settings.mcp_servers_file is None:  # what its servers offer is known when they run
            self._check_tools(tool.name for tool in (*builtin_tools(self._clock), *self.tools))
        wanted = model or given(self._spec.model) or (SCRIPTED if self._spec.has_answers else None)
        self._scripted = wanted == SCRIPTED and self._spec.has_answers
        members = _providers(settings, self._clock, self._spec if self._scripted else None)
        self.model: str | None = _turn_model(1) if self._scripted else wanted
        if self.model is not None:
            self.model = self._canonical(members, self.model, of_file=model is None)
        self.providers = _with_faults(members, self.model, self._plan, settings) if self._spec.faults else members

    def title_of(self, model: str) -> str:
        """How a model is named to people: the file's own answers are ``scripted``."""
        return SCRIPTED if self._scripted else model

    async def turns(self, chat: Engine, *, caller: Caller = LOCAL) -> AsyncGenerator[TurnCheck, None]:
        """Run the turns, each when the one before has ended, in a new session. A turn that fails does not keep the next
        from being run. Raises InvalidConversation for a tool that is not registered, and as ``create_session`` does.
        """
        self._check_tools([tool.name for tool in await chat.tools(caller=caller)])
        fields: NewSession = {"title": _title(self.file.name), "model": self.model}
        if isinstance(self._spec.system, str):
            fields["system"] = self._spec.system
        session = (await chat.create_session(caller=caller, **fields)).id
        for number, said in enumerate(self._spec.turns, 1):
            yield await self._turn(chat, caller, session, number, said)

    async def _turn(self, chat: Engine, caller: Caller, session: UUID, number: int, said: TurnSpec) -> TurnCheck:
        self._plan.begin(number)
        begun_s = self._clock.monotonic_s()
        turn, refused = None, None
        try:
            started = await chat.start_turn(session, said.user, caller=caller, **self._options(number))
            turn = await chat.ended(started.turn, caller=caller)
            if turn.status == "requires_action":
                await chat.cancel(turn.id, caller=caller)
        except (Refused, Overloaded, TurnLimitReached) as error:
            refused = error
        return TurnCheck(
            number=number,
            line=self.file.place("turns", number - 1)[0],
            user=said.user,
            session_id=session,
            turn=turn,
            seconds=self._clock.monotonic_s() - begun_s,
            failure=_failure(said, turn, refused),
            unmet=tuple(self._unmet(number, said, turn)),
        )

    def _options(self, number: int) -> Any:
        options: dict[str, Any] = {"model": _turn_model(number)} if self._scripted else {}
        return options | ({"tools": self._spec.tool_names} if self._spec.tools else {})

    def _unmet(self, number: int, said: TurnSpec, turn: Turn | None) -> list[Unmet]:
        """The expectations that do not hold. Of a turn that failed unexpectedly its failure says enough."""
        expected = turn is not None and (turn.status == "completed" or said.expect.error is not UNSET)
        found = [self._place_of(number, each) for each in unmet(said.expect, turn)] if turn and expected else []
        for fault in self._plan.missed():
            line, column = self.file.place("faults", fault)
            found.append(Unmet("fault", line, column, self.file.value("faults", fault), UNSET))
        return found

    def _place_of(self, number: int, found: Found) -> Unmet:
        (name, *_), path = found[0], ("turns", number - 1, "expect", *found[0])
        line, column = self.file.key_place(*path) if name == "json" else self.file.place(*path)
        key = f"{name} {found[0][1]}" if name == "json" and len(found[0]) > 1 else str(name)
        return Unmet(key, line, column, found[1], found[2])

    # --- what is checked before anything runs -------------------------------------------------------------------------

    def _canonical(self, members: Providers, model: str, *, of_file: bool) -> str:
        try:
            return members.canonical(model)
        except UnknownModel as error:
            if not of_file:
                raise
            self.file.refuse(self.file.place("model"), error.detail, available=error.extra.get("available"))

    def _check_scripted_tools(self, registered: Sequence[Tool]) -> None:
        """The names of scripted tools are free."""
        taken = {tool.name for tool in registered}
        for number, tool in enumerate(self._spec.tools):
            if isinstance(tool, ToolSpec) and tool.name in taken:
                self.file.refuse(self._tool_place(number), f"`{tool.name}` is the name of a tool that is registered")

    def _check_tools(self, names: Iterable[str]) -> None:
        """All tools that the file names are there."""
        there = tuple(names)
        for number, name in enumerate(self._spec.tool_names):
            if name not in there:
                detail = f"no tool is named `{name}` here{nearest(name, there)}"
                self.file.refuse(self._tool_place(number), detail, available=list(there))

    def _tool_place(self, number: int) -> Place:
        return self.file.place("tools", number, "name")


def _failure(said: TurnSpec, turn: Turn | None, refused: EngineError | None) -> str | None:
    """How a turn failed, if that was not expected."""
    if refused is not None:
        wanted = refused.code in listed(said.expect.error)
        return None if wanted else f"the turn was not started: {refused.detail} ({refused.code})"
    assert turn is not None
    if turn.status == "completed" or said.expect.error is not UNSET:
        return None
    if turn.status == "requires_action":
        calls = ", ".join(f"{call.tool_use_id} ({call.name})" for call in turn.pending_approvals)
        return f"the turn waits for a person: {calls}"
    detail = f": {turn.error.detail or 'no detail'} ({turn.error.code})" if turn.error else ""
    return f"the turn {turn.status}{detail}"


def _title(name: str) -> str:
    """The title of the session: the file's name, without what no text can hold."""
    return Path(name).stem.encode("utf-8", "replace").decode()


def _turn_model(number: int) -> str:
    """The model that gives a file's answers to a turn."""
    return f"scripted/turn-{number}"


def _script(spec: ConversationSpec) -> Script:
    """Each turn's answers as those of a model of its own: what it says depends on the request alone, and not on how the
    turns before went.
    """
    models = {}
    for number, turn in enumerate(spec.turns, 1):
        answers = [_answer(turn.user, number, *numbered) for numbered in enumerate(listed(turn.answers), 1)]
        models[f"turn-{number}"] = (*answers, ScriptedAnswer((NO_MORE,), turn.user))
    return Script(models)


def _answer(user: str, turn: int, number: int, answer: Any) -> ScriptedAnswer:
    steps = [
        ScriptedStep(text=step) if isinstance(step, str) else step.scripted(f"call_{turn}_{number}_{place}")
        for place, step in enumerate(listed(answer), 1)
    ]
    return ScriptedAnswer(tuple(steps), user)


def _providers(settings: Settings, clock: Clock, spec: ConversationSpec | None) -> Providers:
    """The providers that the settings allow, and the file's own answers, beside the script that the settings name."""
    if spec is None:
        return make_providers(settings, clock)
    script = _script(spec)
    if settings.script:
        script = Script(read_script(Path(settings.script)).models | script.models)
    providers = make_providers(msgspec.structs.replace(settings, script=None), clock)
    providers.add(ScriptedProvider(script))
    return providers


def _with_faults(members: Providers, model: str | None, plan: FaultPlan, settings: Settings) -> Providers:
    """The same providers, but that the one of this model fails as planned; where none is named, all do."""
    name = model.partition("/")[0] if model is not None else None
    found: list[Provider] = [
        FaultyProvider(each, plan) if name in {None, each.name} else each
        for each in map(members.get, members.names())
        if each is not None
    ]
    return Providers(found, configured=[] if settings.model is None else [settings.model])
