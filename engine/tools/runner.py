"""The tool runner: it makes a model's call of a tool, within limits, and returns its outcome. Nothing here raises for
what a tool or a model does: every call has an outcome, with a code for the record and words for the model.

============================  =========================================================================================
``completed``                 the tool ran, and this is its output
``output_too_large``          the tool ran; its output is cut at the limit, with a note, and is no error
``unknown_tool``              no tool has this name
``tool_not_allowed``          the tool exists, and may not be used here
``invalid_arguments``         the input is not a JSON object, or does not fit the schema
``tool_not_approved``         the call needs a person's approval, and has none
``tool_failed``               the tool raised, reported a failure, or returned neither text, images nor JSON
``tool_timed_out``            the tool did not end in time and was cancelled
============================  =========================================================================================

All but the first two are errors. The model reads no stack trace and no path: of an exception that is not ours it is
told the type, and the log has the rest. An ``async`` tool that blocks holds up the whole server, and a thread that
hangs cannot be killed (``engine/tools/functions.py``).
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from ..clock import Clock
from ..errors import EngineError, Invalid
from ..events.blocks import ToolOutcome
from .base import Tool, ToolContext, ToolOutput
from .registry import Tools
from .results import fit

log = logging.getLogger("manent.tools")

T = TypeVar("T")

GRACE_S = 1.0
"""The time that a cancelled tool gets to clean up before it is abandoned."""

MAX_WORDS_BYTES = 4096
"""Most bytes of our own words to the model about a failed call."""


class ToolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of calls. ``timeout_s`` and ``max_output_bytes`` hold for each call whose tool has none of its own;
    ``max_threads`` for all that runs in threads.
    """

    timeout_s: float = 30.0
    max_output_bytes: int = 64 << 10
    max_threads: int = 16


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A model's call: ``input_text`` as the model wrote it; ``approved`` if a person approved it; ``others``: the tools
    that the model was told of and that its caller runs.
    """

    tenant: str
    session: UUID
    turn: UUID
    id: str
    name: str
    input_text: str
    approved: bool = False
    others: tuple[str, ...] = ()


class ReadyCall(msgspec.Struct, frozen=True):
    """A call that can be made."""

    tool: Tool
    given: dict[str, Any]


class ToolRunner:
    """Runs calls within limits. One runner serves all turns; it lives in one event loop."""

    def __init__(self, tools: Tools, limits: ToolLimits, clock: Clock) -> None:
        self._tools = tools
        self._limits = limits
        self._clock = clock
        self._threads = DaemonThreads(limits.max_threads)
        self._left_behind: set[asyncio.Task[ToolOutput]] = set()

    def prepare(self, call: ToolCall, allowed: Collection[str]) -> ReadyCall | ToolOutcome:
        """Check a call: ready to be made, or the outcome of one that cannot be. Nothing has run yet; if the tool needs
        a person's approval, this is the moment to ask for it.
        """
        tool = self._tools.get(call.name)
        if tool is None or call.name not in allowed:
            code = "unknown_tool" if tool is None else "tool_not_allowed"
            return _failure(code, f"There is no tool {call.name[:64]!r} here. {self._what_there_is(call, allowed)}")
        try:
            given = read_arguments(call.input_text or "{}")
            tool.check(given)
        except Invalid as error:
            return _failure("invalid_arguments", f"Not called: {error.detail}. Try again with other arguments.")
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            words = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            return _failure("invalid_arguments", f"Not called: the arguments must be a JSON object ({words}).")
        except Exception as error:  # noqa: BLE001 - a tool's own code
            return _raised(call.name, error)
        return ReadyCall(tool, given)

    def _what_there_is(self, call: ToolCall, allowed: Collection[str]) -> str:
        names = [*(name for name in self._tools.names() if name in allowed), *call.others]
        return f"There are: {', '.join(names)}." if names else "There are no tools."

    async def call(self, call: ToolCall, allowed: Collection[str]) -> ToolOutcome:
        """Make one call. Raises CancelledError only."""
        ready = self.prepare(call, allowed)
        if isinstance(ready, ToolOutcome):
            return ready
        if ready.tool.approval and not call.approved:
            return _failure("tool_not_approved", "Not called: this tool needs a person's approval, and has none.")
        started_s = self._clock.monotonic_s()
        outcome = await self._run(ready, call)
        duration_ms = round((self._clock.monotonic_s() - started_s) * 1000)
        return msgspec.structs.replace(outcome, duration_ms=duration_ms)

    async def _run(self, ready: ReadyCall, call: ToolCall) -> ToolOutcome:
        """Run the tool in a task of its own: one that does not end when it is cancelled is abandoned, and cannot hold
        up its turn.
        """
        tool = ready.tool
        limit_s = self._limits.timeout_s if tool.timeout_s is None else tool.timeout_s
        context = ToolContext(call.tenant, call.session, call.turn, call.id, self._threads)
        task = asyncio.create_task(_shielded_from_exits(tool, ready.given, context))
        try:
            await asyncio.wait({task}, timeout=limit_s)
            in_time = task.done()
        finally:
            await self._give_up(task)
        if not in_time:
            return _failure("tool_timed_out", f"{tool.name} did not end within {limit_s:g} s and was cancelled.")
        if task.cancelled():
            return _failure("tool_failed", f"{tool.name} failed: it was cancelled from within.")
        if error := task.exception():
            return _raised(tool.name, error)
        most_bytes = self._limits.max_output_bytes if tool.max_output_bytes is None else tool.max_output_bytes
        return _outcome(tool.name, task.result(), most_bytes)

    async def _give_up(self, task: asyncio.Task[ToolOutput]) -> None:
        if task.done():
            return
        self._left_behind.add(task)
        task.add_done_callback(self._forget)
        task.cancel()
        await asyncio.wait({task}, timeout=GRACE_S)

    def _forget(self, task: asyncio.Task[ToolOutput]) -> None:
        self._left_behind.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that the loop does not report it


def read_arguments(text: str) -> dict[str, Any]:
    """The arguments of a call. Raises Invalid for a field that is given twice, for nobody knows which one is meant, and
    a MsgspecError for what is no object of JSON.
    """
    given: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    json.loads(text, object_pairs_hook=_once_each, parse_int=float)  # float: of any length
    return given


def _once_each(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Invalid(twice[:64], "is given twice", code="duplicate_field")


class DaemonThreads:
    """Threads for blocking code, at most so many at once. They do not keep the process from ending, as a pool's would:
    a thread that hangs may hang for ever.
    """

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)

    async def run(self, function: Callable[[], T]) -> T:
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            self._free.release()
            if done.done():  # abandoned
                return
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

        def work() -> None:
            result, error = _tried(function)
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                loop.call_soon_threadsafe(settle, result, error)

        try:
            threading.Thread(target=work, name="manent-tool", daemon=True).start()
        except RuntimeError:  # the system gives no more threads
            self._free.release()
            raise
        return await done


def _tried(function: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    """The result of a function, or its exception, in a form that a future can hold and that ends no event loop."""
    try:
        return function(), None
    except (StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit) as raised:
        return None, RuntimeError(type(raised).__name__)
    except BaseException as raised:  # noqa: BLE001 - raised again where the result is awaited
        return None, raised


async def _shielded_from_exits(tool: Tool, given: dict[str, Any], context: ToolContext) -> ToolOutput:
    """Run the tool; one that calls ``sys.exit()`` has failed, and does not end the server."""
    try:
        return await tool.run(given, context)
    except (SystemExit, GeneratorExit) as error:
        raise RuntimeError(type(error).__name__) from error


def _outcome(name: str, output: Any, most_bytes: int) -> ToolOutcome:
    """The outcome of a tool that ran, its output made fit for the record and for a model."""
    try:
        content, size, is_cut = fit(output.content, most_bytes)
        is_error = bool(output.is_error)
    except (AttributeError, TypeError):
        return _failure("tool_failed", f"{name} failed: it returned neither text nor images.")
    code = "tool_failed" if is_error else "output_too_large" if is_cut else "completed"
    return ToolOutcome(code, content, is_error, output_bytes=size)


def _raised(name: str, error: BaseException) -> ToolOutcome:
    if isinstance(error, EngineError):
        return _failure("tool_failed", f"{name} failed: {error.detail}")
    log.warning("the tool %s failed", name, exc_info=error)
    return _failure("tool_failed", f"{name} failed with {type(error).__name__}.")


def _failure(code: str, words: str) -> ToolOutcome:
    content, size, _ = fit(words, MAX_WORDS_BYTES)
    return ToolOutcome(code, content, is_error=True, duration_ms=0, output_bytes=size)
