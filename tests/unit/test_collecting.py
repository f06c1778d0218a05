"""Full collections wait until no turn runs, and what a server begins with is not collected at all."""

import asyncio
import gc
import weakref
from types import SimpleNamespace

import pytest

from manent.api import garbage_collection
from manent.api.garbage_collection import MOST_DUE, collecting_in_quiet

USUAL = gc.get_threshold()


class Knot:
    """Garbage that refers to itself."""

    def __init__(self):
        self.self = self


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(garbage_collection, "LOOK_S", 0.01)


@pytest.mark.usefixtures("quick")
async def test_collections_wait_for_quiet():
    """While turns run, garbage that has grown old stays; when none runs, it goes."""
    serving = SimpleNamespace(busy=True)
    async with collecting_in_quiet(SimpleNamespace(serving=serving)):
        knot = Knot()
        gc.collect(1)
        gc.collect(1)
        gone = weakref.ref(knot)
        del knot
        for _ in range(USUAL[2] + 1):
            gc.collect(1)
        await asyncio.sleep(0.1)
        assert gone() is not None
        serving.busy = False
        async with asyncio.timeout(5):
            while gone() is not None:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)


async def test_a_server_leaves_the_collector_as_it_was():
    """Collections by themselves come later while a server runs, and as ever afterwards."""
    async with collecting_in_quiet(SimpleNamespace(serving=SimpleNamespace(busy=False))):
        assert gc.get_threshold() == (*USUAL[:2], MOST_DUE)
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == USUAL
    assert gc.get_freeze_count() == 0
