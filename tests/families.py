"""Families of sessions, for tests: a fork as a replay makes it."""

from manent import engine
from manent.engine.log.base import Append, Inherited, NoStream
from manent.engine.sessions.decisions import Changes, ReplayOrigin, fork_session
from manent.engine.sessions.envelope import LOCAL, seal
from manent.engine.sessions.lineage import history_at


async def replayed(chat, parent, version=None):
    """The id of a fork that a replay made."""
    parts = chat._parts
    source = await parts.store.read(lambda reader: history_at(reader, LOCAL.tenant, parent, version))
    source = Inherited(source.session, source.version)
    draft = fork_session(Changes({}), source, ReplayOrigin(engine.new_id(), engine.new_id()))
    session = parts.clock.new_id()
    work = Append(LOCAL.tenant, session, NoStream(), lambda *_: seal([draft], LOCAL, parts.clock), inherits=source)
    await parts.store.append(work)
    return session
