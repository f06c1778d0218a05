"""Work done side by side, at most so many at once, whose results come as they are ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")

Work = Callable[[], AsyncGenerator[T, None]]


class _Done:
    """A worker has no more to do."""


async def in_parallel(works: Iterable[Work[T]], jobs: int) -> AsyncGenerator[T, None]:
    """The results of all works, at most ``jobs`` of which are under way. No work goes on when this is closed, or when
    one of them has failed; its exception is raised then.
    """
    left, results = iter(works), asyncio.Queue[T | _Done | BaseException]()
    workers = [asyncio.create_task(_worker(left, results)) for _ in range(jobs)]
    running = len(workers)
    try:
        while running:
            result = await results.get()
            if isinstance(result, BaseException):
                raise result
            if isinstance(result, _Done):
                running -= 1
            else:
                yield result
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _worker(left: Iterator[Work[T]], results: asyncio.Queue[T | _Done | BaseException]) -> None:
    try:
        for work in left:
            async with aclosing(work()) as found:
                async for result in found:
                    results.put_nowait(result)
    except Exception as error:  # noqa: BLE001 - whoever reads the results gets it
        results.put_nowait(error)
    else:
        results.put_nowait(_Done())
