"""Doing a recorded conversation again: played back as it came, or run again on another model.

Both read the events of a session and nothing else. ``play_back`` writes nothing. ``run_again`` asks a model anew, in
a new session, and gives what it answered beside what is on record.

What is *taken as recorded* and what is *asked anew*: whatever callers appended (users' messages, tools' results,
messages of any other role) is taken as recorded, and so is what tools gave; whatever a model made is asked anew. No
tool is run: the new model is told of the same ones, and its calls are answered from the record. An *exchange* is a run
of appended messages and the turns that answered them: a turn that was tried again belongs to the same exchange, so each
exchange has one recorded answer and gets one new one.

Results of tools belong to calls that the recorded model made, and another model may call otherwise. Each recorded
result goes to the first open call of the new run that asks for the same tool; a call for which nothing is on record
gets an error as its result, so that the conversation can go on; and if the new run asked for none of these tools, the
exchange is left out and says so. What a turn was asked beside the messages (temperature, stop sequences, a model or
budget of its own) is not repeated: the new session's settings hold.
"""

from __future__ import annotations

import difflib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from uuid import UUID

import msgspec

from ...errors import Erased, Refused
from ...events.blocks import Block, TextBlock, ToolResultBlock, ToolSchema, ToolUseBlock, raw_blocks
from ...events.turn_types import AttemptStarted, TurnStarted, TurnWords
from ...events.types import MessageAppended
from ...events.upcasts import facts_of, words_of
from ...log.base import RecordedEvent
from ...sessions.copies import REPLAY_OF
from ...sessions.envelope import Caller
from ...sessions.turn_views import Turn
from ...sessions.views import Message, message_view
from ...settings import Settings
from ..discovery import Discovery
from ..events import Events
from ..inputs import MessageIn
from ..messages import Messages
from ..session_fields import SessionFields
from ..sessions import Sessions
from ..turns import Turns

_sorted = msgspec.json.Encoder(order="sorted").encode

NOT_ON_RECORD = "no result is on record for this call"


class Rerun(msgspec.Struct, frozen=True):
    """One exchange done again in ``session``, the new one. ``old`` and ``new`` are the answers as text; ``new`` is
    None where the exchange was left out, and ``reason`` says why. ``turn`` is the new turn, however it ended.
    """

    session: UUID
    inputs: tuple[Message, ...]
    old: str
    new: str | None = None
    turn: Turn | None = None
    reason: str = ""


class Reruns:
    """Runs recorded sessions again."""

    def __init__(
        self,
        sessions: Sessions,
        messages: Messages,
        events: Events,
        turns: Turns,
        discovery: Discovery,
        settings: Settings,
    ) -> None:
        self._sessions = sessions
        self._messages = messages
        self._events = events
        self._turns = turns
        self._discovery = discovery
        self._settings = settings

    async def run(self, caller: Caller, session: UUID, model: str) -> AsyncGenerator[Rerun, None]:
        """Each exchange of a session, asked anew of ``model`` in a new session."""
        old = await self._sessions.read(caller, session)
        fields = SessionFields(
            model=model,
            system=await self._sessions.system(caller, session),
            title=old.title,
            budget_tokens=old.budget_tokens,
            max_output_tokens=old.max_output_tokens,
            metadata={REPLAY_OF: str(session)},
        )
        new = await self._sessions.create(caller, fields, None, await self._sessions.as_source(caller, session))
        runner = _Runner(self._messages, self._turns, self._discovery, self._settings, caller, new.id)
        async for exchange in _exchanges(self._events.recorded(caller, session)):
            yield await runner.run(exchange)


def differences(old: str, new: str) -> str:
    """A unified diff of two answers; empty if they are the same."""
    lines = difflib.unified_diff(old.split("\n"), new.split("\n"), "recorded", "again", lineterm="")
    return "\n".join(lines)


def answer_of(messages: Sequence[Message]) -> str:
    """The assistants' words in these messages, as text that can be compared: their words and the tools they asked
    for, without ids, which always differ. What goes on with a partial answer continues its text.
    """
    answer, broken_off = "", True
    for message in messages:
        if message.role != "assistant":
            continue
        said = "\n".join(filter(None, (_said(block) for block in message.blocks())))
        answer += said if broken_off else f"\n{said}"
        broken_off = not message.complete
    return answer


# --- reading the record -----------------------------------------------------------------------------------------------


class _Exchange(msgspec.Struct):
    """Appended messages, and the answers of the turns that followed (without partial answers given anew). ``tools``
    names the schemas that the model was told of, ``client`` those tools of them that the caller ran.
    """

    inputs: list[Message] = []
    answers: list[Message] = []
    answered: bool = False
    tools: str | None = None
    client: tuple[str, ...] = ()


async def _exchanges(events: AsyncIterator[RecordedEvent]) -> AsyncGenerator[_Exchange, None]:
    """Answered exchanges, oldest first; messages after the last turn have no answer to be compared with."""
    exchange = _Exchange()
    async for event in events:
        facts = facts_of(event)
        if isinstance(facts, TurnStarted):
            exchange.answered = True
            words = words_of(event)
            exchange.client = words.client_tools if isinstance(words, TurnWords) else facts.client_tools
            exchange.answers = [message for message in exchange.answers if message.position != facts.supersedes]
        elif isinstance(facts, AttemptStarted):
            exchange.tools = facts.tools
        elif isinstance(facts, MessageAppended) and facts.turn is not None:
            exchange.answers.append(message_view(event))
        elif isinstance(facts, MessageAppended):
            if exchange.answered:
                yield exchange
                exchange = _Exchange()
            exchange.inputs.append(message_view(event))
    if exchange.answered:
        yield exchange


# --- asking anew ------------------------------------------------------------------------------------------------------


Recorded = list[tuple[str | None, ToolResultBlock]]
"""Results on record that were not given yet, each with the name of the tool that gave it."""


class _Runner:
    """Runs exchanges in the new session. Remembers the calls of both runs: results are recorded for those of one,
    and wanted by those of the other.
    """

    def __init__(
        self,
        messages: Messages,
        turns: Turns,
        discovery: Discovery,
        settings: Settings,
        caller: Caller,
        session: UUID,
    ) -> None:
        self._messages = messages
        self._turns = turns
        self._discovery = discovery
        self._settings = settings
        self._caller = caller
        self._session = session
        self._old_calls: dict[str, str] = {}
        self._open_calls: list[ToolUseBlock] = []
        self._recorded: Recorded = []

    async def run(self, exchange: _Exchange) -> Rerun:
        """One exchange; what keeps it from being run is its reason and not an error."""
        inputs, old = tuple(exchange.inputs), answer_of(exchange.answers)
        recorded, self._recorded = self._recorded, []
        left_out = Rerun(self._session, inputs, old)
        try:
            if any(message.erased for message in inputs):
                return msgspec.structs.replace(left_out, reason="its words are erased")
            contents = self._contents(inputs, recorded)
            if contents is None:
                return msgspec.structs.replace(left_out, reason="the new run did not ask for these tools")
            self._recorded = _results_in(exchange.answers)
            messages, turn = await self._converse(contents, exchange)
        except (Refused, Erased) as refusal:
            return msgspec.structs.replace(left_out, reason=refusal.detail)
        finally:
            self._old_calls = {call.id: call.name for call in _open_calls(exchange.answers)}
        return msgspec.structs.replace(left_out, new=answer_of(messages), turn=turn)

    async def _converse(self, contents: list[MessageIn], exchange: _Exchange) -> tuple[list[Message], Turn]:
        """Converse with the model, in as many turns as it takes: a tool that ran within the old turn is the caller's
        in the new session, and the caller answers from the record.
        """
        messages: list[Message] = []
        schemas = await self._discovery.schemas(self._caller, exchange.tools) if exchange.tools else ()
        ran_here = {schema.name for schema in schemas} - {*exchange.client}
        rounds = self._settings.max_rounds if ran_here else 1
        while True:
            turn = await self._ask(contents, schemas)
            messages += turn.messages
            self._open_calls = _open_calls(turn.messages)
            rounds -= 1
            for_callers = any(call.name in exchange.client for call in self._open_calls)
            if not self._open_calls or for_callers or not rounds:
                return messages, turn
            contents = [MessageIn(raw_blocks(tuple(self._results(self._recorded))), "tool")]

    async def _ask(self, contents: list[MessageIn], tools: tuple[ToolSchema, ...]) -> Turn:
        """Append all but the last, and answer that; ``append_messages`` takes so many at once."""
        most = self._settings.max_messages
        for start in range(0, len(contents) - 1, most):
            given = contents[start : min(start + most, len(contents) - 1)]
            await self._messages.append(self._caller, self._session, given, None, None)
            self._open_calls = []
        started = await self._turns.start(self._caller, self._session, contents[-1], {"client_tools": tools})
        self._open_calls = []
        return await self._turns.ended(self._caller, started.turn, None)

    def _contents(self, inputs: Sequence[Message], recorded: Recorded) -> list[MessageIn] | None:
        """The content for the new session. None: only results, and none of them is for a call that was made.
        ``recorded``: what is left of the exchange before.
        """
        answering = [message for message in inputs if self._answers_old_calls(message)]
        rest = [MessageIn(message.content, message.role) for message in inputs if message not in answering]
        recorded += [
            (self._old_calls.get(block.tool_use_id), block)
            for message in answering
            for block in message.blocks()
            if isinstance(block, ToolResultBlock)
        ]
        results = self._results(recorded)
        if not rest and all(result.content == NOT_ON_RECORD for result in results):
            return None
        return [MessageIn(raw_blocks(tuple(results)), "tool"), *rest] if results else rest

    def _answers_old_calls(self, message: Message) -> bool:
        return message.role == "tool" and any(
            isinstance(block, ToolResultBlock) and block.tool_use_id in self._old_calls for block in message.blocks()
        )

    def _results(self, recorded: Recorded) -> list[ToolResultBlock]:
        """A result for every open call of the new run: the next one recorded for a call of the same tool."""
        results = []
        for call in self._open_calls:
            found = next((each for each in recorded if each[0] == call.name), None)
            if found is None:
                results.append(ToolResultBlock(tool_use_id=call.id, content=NOT_ON_RECORD, is_error=True))
            else:
                recorded.remove(found)
                results.append(msgspec.structs.replace(found[1], tool_use_id=call.id))
        return results


def _open_calls(messages: Sequence[Message]) -> list[ToolUseBlock]:
    """The calls that callers are to answer: those of the last answer here that have no result. A partial answer asks
    for nothing.
    """
    calls: list[ToolUseBlock] = []
    for message in messages:
        if message.role == "assistant":
            calls = [block for block in message.blocks() if isinstance(block, ToolUseBlock) and message.complete]
        else:
            answered = {block.tool_use_id for block in message.blocks() if isinstance(block, ToolResultBlock)}
            calls = [call for call in calls if call.id not in answered]
    return calls


def _results_in(messages: Sequence[Message]) -> Recorded:
    """The results of tools within turns, in order."""
    names: dict[str, str] = {}
    results: Recorded = []
    for message in messages:
        for block in message.blocks():
            if isinstance(block, ToolUseBlock):
                names[block.id] = block.name
            elif isinstance(block, ToolResultBlock):
                results.append((names.get(block.tool_use_id), block))
    return results


def _said(block: Block) -> str:
    if isinstance(block, TextBlock):
        return block.text
    if isinstance(block, ToolUseBlock):
        given = block.input_text if block.input is None else _sorted(block.input).decode()
        return f"[asks for {block.name} {given}]"
    return ""
