"""From drafts to events that can be appended."""

from manent.engine.clock import new_id
from manent.engine.events.session_types import SessionArchived, SessionStarted, SessionWords
from manent.engine.events.types import Draft
from manent.engine.sessions.envelope import LOCAL, Caller, seal
from tests.support import ManualClock


def test_drafts_get_their_envelope():
    """Type, schema, canonical facts and the words' bytes; the caller's name and request, unless the draft names its own
    author; an id, unless it has one.
    """
    name, cause = new_id(), new_id()
    drafts = [
        Draft(SessionStarted("a/b", budget_tokens=5), SessionWords("é"), id=name),
        Draft(SessionArchived(), causation=cause, actor="system"),
    ]
    first, second = seal(drafts, Caller("t", "key:1", "req"), ManualClock())
    assert (first.id, first.type, first.schema, first.actor) == (name, "session.started", 2, "key:1")
    assert (first.facts, first.body) == (b'{"budget_tokens":5,"model":"a/b"}', '{"title":"é"}'.encode())
    assert (first.causation, first.correlation) == (None, "req")
    assert (second.actor, second.causation, second.correlation, second.body) == ("system", cause, "req", b"")
    assert second.id.version == 7
    assert seal([], LOCAL, ManualClock()) == []
