"""Copies of what an erasure erases, which keep it: sessions that were made from another one, messages that hold words
of others because their client named them, and answers that sum up what was said before.

Copies of copies are found in the same way, each with its branches, and with the attempts that sent the words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from uuid import UUID

import msgspec

from ..events.turn_types import AttemptEnded, AttemptEndedWords, AttemptStarted, TurnStarted
from ..events.types import BodyErased, MessageAppended
from ..events.upcasts import facts_of, words_of
from ..log.base import Connection
from ..log.erasure import Trace, traces
from ..log.sql import reads
from ..sessions.copies import copies_of
from ..sessions.forks import forks_of_family, sharers
from ..sessions.marks import copied_marks
from ..sessions.queries import session_state

Histories = Mapping[UUID, Sequence[Trace]]
"""The own events of sessions."""


class _Place(msgspec.Struct, frozen=True):
    """A session in which words are shown: of its own events those that hold them, and the positions of all that do."""

    session: UUID
    history: Sequence[Trace]
    own: frozenset[bytes]
    positions: frozenset[int]


def copies_that_keep(
    connection: Connection, tenant: str, histories: Histories, chosen: frozenset[bytes], gone: AbstractSet[int]
) -> dict[UUID, set[int]]:
    """The versions that keep words of the events with these ids, by the session. ``histories``: the sessions that an
    erasure reaches; ``gone``: the positions that it erases.
    """
    search = _Search(connection, tenant, histories, chosen, gone)
    search.run()
    return search.found


class _Search:
    """Follows words from where they were said to all that was made from them."""

    def __init__(
        self,
        connection: Connection,
        tenant: str,
        histories: Histories,
        chosen: frozenset[bytes],
        gone: AbstractSet[int],
    ) -> None:
        self._connection = connection
        self._tenant = tenant
        self._reached = histories
        self._histories = dict(histories)
        self._gone = gone
        self._known = set(chosen)
        said = (each for history in histories.values() for each in history)
        positions = frozenset(each.position for each in said if each.raw_id in chosen)
        self._waiting = [_Place(session, history, chosen, positions) for session, history in histories.items()]
        self.found: dict[UUID, set[int]] = {}

    def run(self) -> None:
        """Follow them to the end."""
        while self._waiting:
            place = self._waiting.pop()
            if not place.own:
                continue
            for copy, same in (*self._made_from(place), *self._quotes(place)):
                self._hold(copy, same, self._history(copy))
            self._summed_up(place)

    def _made_from(self, place: _Place) -> Iterator[tuple[UUID, list[Trace]]]:
        """The sessions that were made from this one, with the events that have the words."""
        for copy in copies_of(self._connection, self._tenant, place.session, place.history[0].raw_id):
            if copy not in self._reached:
                history = self._history(copy)
                yield copy, [each for each in history if _tells(each, history[0], place.own)]

    def _quotes(self, place: _Place) -> Iterator[tuple[UUID, list[Trace]]]:
        """The messages that hold words of messages here, by their sessions."""
        versions: dict[UUID, set[int]] = {}
        own = [each.position for each in place.history if each.raw_id in place.own]
        for session, version in copied_marks(self._connection, self._tenant, own):
            versions.setdefault(session, set()).add(version)
        for session, found in versions.items():
            yield session, [each for each in self._history(session) if each.version in found]

    def _summed_up(self, place: _Place) -> None:
        """Find the answers that sum up what was said, the words among it."""
        turns = {each.raw_id for each in place.history if _is_summary(each)}
        if not turns:
            return
        sent = {facts.turn.bytes for facts in _sent(place.history, place.positions)} & turns
        said = [each for each in place.history if _turn_of(each) in sent]
        self._hold(place.session, said, place.history)

    def _hold(self, session: UUID, events: Sequence[Trace], history: Sequence[Trace]) -> None:
        """Note the events of a session that hold the words, and where it and its branches show them; those that are
        known already lead to nothing new.
        """
        same = [each for each in events if each.raw_id not in self._known]
        if not same:
            return
        ids, positions = frozenset(each.raw_id for each in same), frozenset(each.position for each in same)
        self._known |= ids
        telling = telling_of(self._connection, self._tenant, history, positions) | positions
        self._note(session, [each for each in history if each.position in telling])
        self._waiting.append(_Place(session, history, ids, positions))
        for branch, up_to in self._branches(session).items():
            shown = [each for each in same if each.version <= up_to]
            if shown:
                self._show(branch, shown)

    def _show(self, branch: UUID, shown: Sequence[Trace]) -> None:
        """Note a branch that shows events of another session."""
        own = self._history(branch)
        positions = frozenset(each.position for each in shown)
        telling = telling_of(self._connection, self._tenant, own, positions)
        if any(each.has_words for each in shown):
            self._note(branch, [*shown, *[each for each in own if each.position in telling]])
        self._waiting.append(_Place(branch, own, frozenset(each.raw_id for each in shown), positions))

    def _note(self, session: UUID, events: Sequence[Trace]) -> None:
        versions = {each.version for each in events if each.has_words and each.position not in self._gone}
        if versions:
            self.found.setdefault(session, set()).update(versions)

    def _branches(self, session: UUID) -> dict[UUID, int]:
        """The other sessions that share events of this one, and up to which version."""
        state = session_state(self._connection, self._tenant, session)
        root = session if state is None else state.root or session
        return sharers(forks_of_family(self._connection, self._tenant, root), session)

    def _history(self, session: UUID) -> Sequence[Trace]:
        if session not in self._histories:
            self._histories[session] = traces(self._connection, self._tenant, session)
        return self._histories[session]


def telling_of(connection: Connection, tenant: str, history: Sequence[Trace], positions: AbstractSet[int]) -> set[int]:
    """Attempts whose prompt held one of these: the commitment over it, and what a provider said that quotes it."""
    sent = {(facts.turn, facts.round, facts.attempt) for facts in _sent(history, positions)}
    telling: set[int] = set()
    for each in history:
        if each.type == AttemptStarted.event_type or (each.type == AttemptEnded.event_type and each.has_words):
            facts = facts_of(each)
            assert isinstance(facts, AttemptStarted | AttemptEnded)
            if (facts.turn, facts.round, facts.attempt) not in sent:
                continue
            if isinstance(facts, AttemptStarted) or _quotes(connection, tenant, each.position):
                telling.add(each.position)
    return telling


def _sent(history: Sequence[Trace], positions: AbstractSet[int]) -> Iterator[AttemptStarted]:
    """The attempts whose prompt held one of these."""
    for each in history:
        if each.type == AttemptStarted.event_type:
            facts = facts_of(each)
            assert isinstance(facts, AttemptStarted)
            if facts.system in positions or not positions.isdisjoint(facts.positions):
                yield facts


def _quotes(connection: Connection, tenant: str, position: int) -> bool:
    """True if an ended attempt kept what the provider answered when it refused, or one of the caller's stop sequences;
    or is damaged and may have: damage keeps no erasure up.
    """
    event = reads.event_at_position(connection, tenant, position)
    if event is None or event.damaged:
        return event is not None
    words = words_of(event)
    return isinstance(words, AttemptEndedWords) and (words.upstream is not None or words.stop_sequence is not None)


def _tells(event: Trace, first: Trace, chosen: AbstractSet[bytes]) -> bool:
    """True if an event of a copy has the words of one of those chosen; of a run done again, any has."""
    if event.type == BodyErased.event_type:
        return False
    return first.causation is None or event.causation in chosen


def _is_summary(event: Trace) -> bool:
    """True for the start of a turn whose answer is to stand for what was said before."""
    if event.type != TurnStarted.event_type:
        return False
    facts = facts_of(event)
    return isinstance(facts, TurnStarted) and facts.client is not None and facts.client.summary


def _turn_of(event: Trace) -> bytes | None:
    """The turn whose answer an event is; None: it is none."""
    if event.type != MessageAppended.event_type:
        return None
    facts = facts_of(event)
    assert isinstance(facts, MessageAppended)
    return facts.turn.bytes if facts.turn is not None and facts.role == "assistant" else None
