"""Waiting on a client's behalf: only as long as it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from .auth import unauthorized
from .body import Http
from .key_ring import has_ended, tell_of_end
from .pieces import left

T = TypeVar("T")


async def unless_left(request: Http, waiting: Coroutine[Any, Any, T]) -> T | None:
    """Wait for a result unless the client disconnects; None if it did. Raises Problem 401 where its key
    ceases to be valid meanwhile.
    """
    awaited = asyncio.create_task(waiting)
    gone = asyncio.create_task(left(request.receive))
    state = request.scope["state"]
    tell_of_end(state, gone.cancel)
    try:
        await asyncio.wait((awaited, gone), return_when=asyncio.FIRST_COMPLETED)
        if awaited.done():
            return awaited.result()
        if has_ended(state):
            raise unauthorized("the API key of this request is no longer valid")
        return None
    finally:
        gone.cancel()
        awaited.cancel()
        await asyncio.gather(gone, awaited, return_exceptions=True)
