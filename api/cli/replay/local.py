"""A replay on a database file: it is put on record there; where the file can only be read, the mode recorded is not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from uuid import UUID

from .... import engine
from ....engine import Caller, Engine, Result, Settings, StoreError, StoreLocked
from ..database import find_session, open_existing
from ..progress import Tell
from ..terminal import notice
from .done import Done
from .wanted import Wanted

Show = Callable[[Result], None]


async def replay_here(
    settings: Settings, caller: Caller, wanted: Wanted, tell: Tell, show: Show, *, report: bool
) -> Done:
    """Do it; returns when it has ended. Raises StoreLocked where a server has the file, but for the mode recorded."""
    async with open_existing(settings) as beside:  # who is wrong about a session shall not take the lock
        sessions = [(await find_session(beside, text, caller)).id for text in wanted.sessions]
    try:
        async with engine.open(settings, notice=notice) as chat:
            return await _on_record(chat, caller, wanted, sessions, tell, show, report=report)
    except StoreLocked as locked:
        if wanted.mode != "recorded" or wanted.resume is not None:
            raise _with_advice(locked) from None
    except StoreError:
        if wanted.mode != "recorded" or wanted.resume is not None:
            raise
    notice("the file can only be read: nothing of this replay is put on record")
    async with open_existing(settings) as chat:
        found = chat.replay(wanted.query(sessions), progress=tell, caller=caller, **wanted.options())
        return Done(await _shown(found, show))


async def _on_record(
    chat: Engine, caller: Caller, wanted: Wanted, sessions: list[UUID], tell: Tell, show: Show, *, report: bool
) -> Done:
    if wanted.resume is not None:
        replay = await chat.resume_replay(wanted.resume, caller=caller)
    else:
        replay = await chat.start_replay(wanted.query(sessions), caller=caller, **wanted.options())
    notice(f"replay {replay.id}; if it is cut off, manent replay --resume {replay.id} goes on with it")
    results: list[Result] = []
    async with aclosing(chat.follow_replay(replay.id, caller=caller)) as batches:
        async for batch in batches:
            for each in batch:
                results.append(each.result)
                show(each.result)
                tell(len(results), replay.turns)
    page = None
    if report:
        page = "".join([piece async for piece in chat.replay_report(replay.id, caller=caller)])
    return Done(results, await chat.replay_state(replay.id, caller=caller), page)


async def _shown(found: AsyncGenerator[Result, None], show: Show) -> list[Result]:
    results = []
    async with aclosing(found):
        async for result in found:
            results.append(result)
            show(result)
    return results


def _with_advice(locked: StoreLocked) -> StoreLocked:
    address = locked.extra.get("address")
    return StoreLocked(f"{locked.detail}; --url {address} replays there" if address else locked.detail, **locked.extra)
