"""Waiting on a client's behalf: only as long as it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from .body import Http
from .pieces import left

T = TypeVar("T")


async def unless_left(request: Http, waiting: Coroutine[Any, Any, T]) -> T | None:
    """What is waited for; None if the client has left, and then nobody waits any more."""
    awaited = asyncio.create_task(waiting)
    gone = asyncio.create_task(left(request.receive))
    try:
        await asyncio.wait((awaited, gone), return_when=asyncio.FIRST_COMPLETED)
        return awaited.result() if awaited.done() else None
    finally:
        gone.cancel()
        awaited.cancel()
        await asyncio.gather(gone, awaited, return_exceptions=True)
