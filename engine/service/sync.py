"""The synchronous door: the engine for scripts and notebooks, with the same methods under the same names.

The engine runs on an event loop of its own, in a thread; a call gives its work to that thread and waits. So it can be
used where no event loop runs, and where one runs already, as in a notebook. Each method is made from the engine's own,
whose arguments and documentation it keeps: what is awaited there is waited for here, and what is read with ``async
for`` there is a plain iterator here.

Ctrl-C while a call waits raises KeyboardInterrupt there and cancels the call; a turn that it has started goes on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, suppress
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar
from uuid import UUID

from ..errors import StoreUnavailable
from ..sessions.turn_views import Turn
from .engine import Engine
from .evidence import Evidence
from .salvage import Salvage
from .text_stream import TextStream

P = ParamSpec("P")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Items(Protocol[T_co]):
    """An iterator that may be closed early."""

    def __anext__(self) -> Awaitable[T_co]: ...
    def aclose(self) -> Coroutine[Any, Any, None]: ...


class _End:
    """There is no item any more."""


class _Thread:
    """A thread in which an engine lives from its opening to its closing."""

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[Engine]]) -> None:
        """Raises what opening raises."""
        self._opening = opening
        self._opened: Future[Engine] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()
        self._closed = False
        self._lock = threading.RLock()  # reentrant: an iterator may be collected, and left, at any time
        self._calls: set[asyncio.Task[Any]] = set()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="manent-engine", daemon=True)
        self._thread.start()
        try:
            self.engine = self._opened.result()
        except BaseException:  # it may have been Ctrl-C, and the engine be open in a moment
            self._tell_to_close()
            raise

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the engine's thread: its result, or what it raises."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("this runs on the engine's own thread, which cannot wait for itself")
        future = self._submit(work)
        if future is None:
            raise StoreUnavailable("the engine is closed")
        try:
            return future.result()
        except CancelledError:
            raise StoreUnavailable("the engine was closed meanwhile") from None
        except BaseException:
            future.cancel()
            raise

    def leave(self, work: Coroutine[Any, Any, None]) -> None:
        """Have it run without waiting: what is left may be collected on any thread, and when the interpreter ends."""
        self._submit(work)

    def close(self) -> None:
        """Close the engine, and wait until it is closed. Raises what closing it raises, once."""
        self._tell_to_close()
        self._thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T] | None:
        """None: it is closed. What is submitted before that is always begun."""
        with self._lock:
            if self._closed or self._loop is None:
                work.close()
                return None
            return asyncio.run_coroutine_threadsafe(self._counted(work), self._loop)

    def _tell_to_close(self) -> None:
        with self._lock:
            closed, self._closed = self._closed, True
            if not closed and self._loop is not None:
                with suppress(RuntimeError):  # the loop has ended by itself
                    self._loop.call_soon_threadsafe(self._closing.set)

    # --- on the engine's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where somebody waits
            if self._opened.done():
                self._failure = error
            else:
                self._opened.set_exception(error)

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self._opening() as engine:
            self._opened.set_result(engine)
            if not self._closed:
                await self._closing.wait()
            for task in self._calls:
                task.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)

    async def _counted(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await work
        finally:
            self._calls.discard(task)


def _read(thread: _Thread, items: _Items[T]) -> Generator[T, None, None]:
    """Items as they come. Who leaves early closes them, after what was interrupted has ended."""
    one_at_a_time = asyncio.Lock()

    async def step() -> T | _End:
        async with one_at_a_time:
            return await anext(items, _End())

    async def stop() -> None:
        async with one_at_a_time:
            await items.aclose()

    ended = False
    try:
        while not isinstance(item := thread.call(step()), _End):
            yield item
        ended = True
    finally:
        if not ended:
            thread.leave(stop())


class _Door(Generic[S_co]):
    """A proxy for an object that lives on the engine's thread."""

    def __init__(self, thread: _Thread, inside: S_co) -> None:
        self._thread = thread
        self._inside = inside


class SyncTextStream(Iterator[str]):
    """The text of an answer as it comes. See ``TextStream``, which awaits it."""

    def __init__(self, thread: _Thread, stream: TextStream) -> None:
        self._stream = stream
        self._deltas = _read(thread, stream)

    @property
    def turn_id(self) -> UUID:
        """The turn's id. Raises RuntimeError until the turn is started."""
        return self._stream.turn_id

    @property
    def turn(self) -> Turn:
        """The turn as it ended, also where its error was raised. Raises RuntimeError until the stream has ended."""
        return self._stream.turn

    def __next__(self) -> str:
        return next(self._deltas)

    def close(self) -> None:
        """Stop reading."""
        self._deltas.close()


def _waits(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Door[S], P], T]:
    """A method that waits for what the engine's own is awaited for."""

    @wraps(method)
    def call(self: _Door[S], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._thread.call(method(self._inside, *args, **kwargs))

    return call


def _reads(method: Callable[Concatenate[S, P], _Items[T]]) -> Callable[Concatenate[_Door[S], P], Iterator[T]]:
    """A method that gives, one by one, what the engine's own gives."""

    @wraps(method)
    def call(self: _Door[S], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return _read(self._thread, method(self._inside, *args, **kwargs))

    return call


def _streams(
    method: Callable[Concatenate[S, P], TextStream],
) -> Callable[Concatenate[_Door[S], P], SyncTextStream]:
    """As ``_reads``, of a stream of text."""

    @wraps(method)
    def call(self: _Door[S], /, *args: P.args, **kwargs: P.kwargs) -> SyncTextStream:
        return SyncTextStream(self._thread, method(self._inside, *args, **kwargs))

    return call


def _gives(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[_Door[S], P], T]:
    """A method that waits for nothing on either side."""

    @wraps(method)
    def call(self: _Door[S], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return method(self._inside, *args, **kwargs)

    return call


class SyncEvidence(_Door[Evidence]):
    """Proofs of the record. See ``Evidence``."""

    checkpoint = _waits(Evidence.checkpoint)
    keys = _waits(Evidence.keys)
    inclusion = _waits(Evidence.inclusion)
    consistency = _waits(Evidence.consistency)
    tile = _waits(Evidence.tile)
    cosign = _waits(Evidence.cosign)


class SyncSalvage(_Door[Salvage]):
    """What is sound of damaged sessions. See ``Salvage``."""

    messages = _reads(Salvage.messages)
    events = _reads(Salvage.events)


class SyncEngine(_Door[Engine]):
    """The engine, for code that does not await. See ``Engine`` for what the methods do and raise. After ``close`` they
    raise StoreUnavailable; on the engine's own thread, in an ``async`` tool for example, RuntimeError.
    """

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[Engine]]) -> None:
        thread = _Thread(opening)
        super().__init__(thread, thread.engine)
        self.settings = thread.engine.settings
        self.providers = thread.engine.providers
        self.default_model = thread.engine.default_model
        self.evidence = SyncEvidence(thread, thread.engine.evidence)
        self.salvage = SyncSalvage(thread, thread.engine.salvage)

    def close(self) -> None:
        """Close the engine, as leaving ``async with engine.open(…)`` does; once more does nothing. Raises a StoreError
        where the last words cannot be written.
        """
        self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    create_session = _waits(Engine.create_session)
    session = _waits(Engine.session)
    sessions = _waits(Engine.sessions)
    iter_sessions = _reads(Engine.iter_sessions)
    answer_client = _waits(Engine.answer_client)
    count_client_tokens = _waits(Engine.count_client_tokens)
    input_estimate = _waits(Engine.input_estimate)
    vendor_forms = _waits(Engine.vendor_forms)
    client_answer = _waits(Engine.client_answer)
    client_answers = _waits(Engine.client_answers)
    asked_messages = _waits(Engine.asked_messages)
    delete_client_answer = _waits(Engine.delete_client_answer)
    client_session = _waits(Engine.client_session)
    create_conversation = _waits(Engine.create_conversation)
    add_to_conversation = _waits(Engine.add_to_conversation)
    describe_conversation = _waits(Engine.describe_conversation)
    delete_conversation = _waits(Engine.delete_conversation)
    client_messages = _waits(Engine.client_messages)
    sign_message = _gives(Engine.sign_message)
    signed_message = _waits(Engine.signed_message)
    find_alias = _waits(Engine.find_alias)
    fork = _waits(Engine.fork)
    branches = _waits(Engine.branches)
    update_session = _waits(Engine.update_session)
    update_metadata = _waits(Engine.update_metadata)
    append_messages = _waits(Engine.append_messages)
    append_message = _waits(Engine.append_message)
    messages = _waits(Engine.messages)
    iter_messages = _reads(Engine.iter_messages)
    pin = _waits(Engine.pin)
    unpin = _waits(Engine.unpin)
    events = _waits(Engine.events)
    iter_events = _reads(Engine.iter_events)
    log_events = _waits(Engine.log_events)
    follow = _reads(Engine.follow)
    check_turn = _waits(Engine.check_turn)
    start_turn = _waits(Engine.start_turn)
    say = _waits(Engine.say)
    stream = _streams(Engine.stream)
    turn = _waits(Engine.turn)
    ended = _waits(Engine.ended)
    turns = _waits(Engine.turns)
    all_turns = _waits(Engine.all_turns)
    iter_turns = _reads(Engine.iter_turns)
    cancel = _waits(Engine.cancel)
    decide = _waits(Engine.decide)
    frames = _reads(Engine.frames)
    transcript = _reads(Engine.transcript)
    window = _waits(Engine.window)
    explain = _waits(Engine.explain)
    models = _gives(Engine.models)
    model = _gives(Engine.model)
    count_tokens = _waits(Engine.count_tokens)
    tools = _waits(Engine.tools)
    schemas = _waits(Engine.schemas)
    erase = _waits(Engine.erase)
    retain = _reads(Engine.retain)
    purge = _waits(Engine.purge)
    export = _waits(Engine.export)
    export_messages = _reads(Engine.export_messages)
    play_back = _reads(Engine.play_back)
    replay = _reads(Engine.replay)
    start_replay = _waits(Engine.start_replay)
    resume_replay = _waits(Engine.resume_replay)
    replays = _waits(Engine.replays)
    replay_state = _waits(Engine.replay_state)
    replay_results = _waits(Engine.replay_results)
    follow_replay = _reads(Engine.follow_replay)
    replay_report = _reads(Engine.replay_report)
    cancel_replay = _waits(Engine.cancel_replay)
    accept_results = _waits(Engine.accept_results)
    suites = _waits(Engine.suites)
    suite = _waits(Engine.suite)
    create_suite = _waits(Engine.create_suite)
    set_suite = _waits(Engine.set_suite)
    delete_suite = _waits(Engine.delete_suite)
