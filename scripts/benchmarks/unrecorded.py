"""``manent serve`` without its record, for the bench alone: the same HTTP, the same turns and the same adapter, but
what a turn would write is neither written nor waited for. A frame is shown as soon as it is numbered.

No way leads here from the product: the two places where a turn meets the disk are replaced from outside. Sessions are
written as ever, for turns are planned on what is read from the database; a session is good for one turn here.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from manent.api.cli.main import main
from manent.engine.clock import SystemClock
from manent.engine.log.append import append
from manent.engine.log.base import Append, Appended
from manent.engine.log.journal import JournalRow
from manent.engine.log.sql.tree import Growing
from manent.engine.log.store import Store
from manent.engine.log.transaction import Head, Heads, Transaction
from manent.engine.sessions.projector import Catalog
from manent.engine.turns.journal_writer import JournalWriter, OnWritten

_written = Store.submit


class Unwritten:
    """What turns append, decided and folded as ever, and then forgotten but for the states of sessions."""

    def __init__(self) -> None:
        self._heads = Heads(most_states=0)
        self._projector = Catalog()
        self._clock = SystemClock()

    def append(self, store: Any, work: Append) -> Appended:
        if work.tenant not in self._heads.logs:
            self._heads.logs[work.tenant] = Head(
                size=0, recorded_at=0, origin="manent/bench", stored=True, tree=Growing(), leaves=[]
            )
        key = (work.tenant, work.session.int)
        if key not in self._heads.states:
            self._heads.keep(key, store._writer._heads.states[key])  # noqa: SLF001 - written as ever: only it has them
        none: Any = None  # of a connection: what has no scratch and no key asks for none
        tx = Transaction(none, self._heads, self._projector, self._clock)
        answer = append(tx, msgspec.structs.replace(work, request=None, scratch=()))
        self._projector.forget()
        return answer


def leave_the_record_out() -> None:
    unwritten = Unwritten()

    def submit(self: Store, work: Any, **how: Any) -> asyncio.Future[Any]:
        asked = getattr(work, "keywords", {}).get("work")
        if not isinstance(asked, Append) or not asked.scratch:  # no turn's
            return _written(self, work, **how)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.set_result(unwritten.append(self, asked))
        return done

    def show(self: JournalWriter, row: JournalRow, on_written: OnWritten) -> None:  # noqa: ARG001 - it has nothing to wait for
        on_written([row], None)

    Store.submit = submit  # type: ignore[method-assign]
    JournalWriter.add = show  # type: ignore[method-assign]


if __name__ == "__main__":
    leave_the_record_out()
    main()
