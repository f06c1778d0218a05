"""A replay on a server, over its API."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from uuid import UUID

import msgspec

from ....engine import Invalid, Replay, Result
from ..chat.remote import RETRIES, RETRY_S, ServerRefused, read_frames
from ..database import ID_DIGITS, read_prefix
from ..progress import Tell
from ..record.server import ServerSessions
from .done import Done
from .wanted import Wanted

COMPARED = "replay.compared"
ENDS = frozenset({"replay.completed", "replay.failed", "replay.cancelled"})


class RemoteReplays(ServerSessions):
    """See the module."""

    def replay(self, wanted: Wanted, tell: Tell, show: Callable[[Result], None], *, report: bool) -> Done:
        """Do it; returns when it has ended. A connection that breaks is made again, after the last result that came."""
        if wanted.resume is not None:
            replay = self.decoded("GET", f"/api/replays/{_whole(wanted.resume)}", Replay)
        else:
            sessions = [str(self.find(text).id) for text in wanted.sessions]
            query = msgspec.to_builtins(wanted.query(sessions))
            body = {name: value for name, value in (query | wanted.options()).items() if value not in (None, [], ())}
            replay = self.decoded("POST", "/api/replays", Replay, body)
        results: list[Result] = []
        end, after, failures = None, 0, 0
        while end is None and failures <= RETRIES:
            try:
                with self._request("GET", f"/api/replays/{replay.id}/stream?after={after}") as response:
                    for frame in read_frames(response):
                        failures, after = 0, frame.number or after
                        if frame.type in ENDS:
                            end = msgspec.json.decode(frame.data, type=Replay)
                        elif frame.type == COMPARED:
                            results.append(msgspec.json.decode(frame.data, type=Result))
                            show(results[-1])
                            tell(len(results), replay.turns)
            except (OSError, http.client.HTTPException):
                pass
            if end is None:
                failures += 1
                time.sleep(RETRY_S)
        if end is None:
            raise ServerRefused(f"the stream keeps breaking off; replay {replay.id} goes on, and is on record")
        return Done(results, end, self._page(replay.id) if report else None)

    def _page(self, replay: UUID) -> str:
        with self._request("GET", f"/api/replays/{replay}/report") as response:
            return response.read().decode()


def _whole(text: str) -> UUID:
    """The id of a replay. Raises Invalid, also for the beginning of one."""
    digits = read_prefix(text)
    if len(digits) != ID_DIGITS:
        raise Invalid("resume", f"{text!r} is not the whole id of a replay")
    return UUID(digits)
