"""One suite for all kinds of tools: every rule of ``engine/tools/base.py``, for each kind, through the runner.

``mcp`` is a real server in a real process, ``mcp_http`` the same over loopback HTTP; both are skipped where the extra
is not installed.
"""

import asyncio
import sys
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import psutil
import pytest
from msgspec import Meta

from manent.engine.clock import SystemClock, new_id
from manent.engine.tools.base import NAME, Tool
from manent.engine.tools.builtin import builtin_tools
from manent.engine.tools.functions import tool
from manent.engine.tools.mcp.config import McpServer, mcp_available
from manent.engine.tools.registry import Tools, read_schemas, write_schemas
from manent.engine.tools.runner import ReadyCall, ToolCall, ToolLimits, ToolRunner
from tests.support import ManualClock

if mcp_available():
    from manent.engine.tools.mcp.client import close_all, connect_all

SERVER = str(Path(__file__).parent.parent / "mcp_server.py")
KINDS = ["sync", "async", "builtin", "mcp", "mcp_http"]


class Specimen(msgspec.Struct):
    """A kind of tool: one that works, with input and answer, and input that names ``amiss``; what fails and hangs."""

    tools: list[Any]
    name: str
    good: dict[str, Any]
    answer: str
    bad: dict[str, Any]
    amiss: str
    failing: str | None = None
    hanging: str | None = None


@asynccontextmanager
async def sync_functions():
    """Hanging threads are let go at the end."""
    over = threading.Event()

    @tool
    def double(number: Annotated[int, Meta(ge=0)]) -> int:
        """Twice the number."""
        return number * 2

    @tool
    def fail() -> str:
        """Fails."""
        raise FileNotFoundError(SERVER)

    @tool
    def hang() -> str:
        """Hangs."""
        over.wait(60)
        return "too late"

    yield Specimen([double, fail, hang], "double", {"number": 4}, "8", {"number": -1}, "number", "fail", "hang")
    over.set()


@asynccontextmanager
async def async_functions():
    @tool
    async def double(number: Annotated[int, Meta(ge=0)]) -> int:
        """Twice the number."""
        await asyncio.sleep(0)
        return number * 2

    @tool
    async def fail() -> str:
        """Fails."""
        raise FileNotFoundError(SERVER)

    @tool
    async def hang() -> str:
        """Hangs, and will not be cancelled at first."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            raise
        return "too late"

    yield Specimen([double, fail, hang], "double", {"number": 4}, "8", {"number": "4"}, "number", "fail", "hang")


@asynccontextmanager
async def builtins():
    tools = list(builtin_tools(ManualClock()))
    yield Specimen(tools, "calculator", {"expression": "2+2*3"}, "8", {"expression": 8}, "expression")


@asynccontextmanager
async def mcp_tools(server):
    connections, tools = await connect_all([server])
    try:
        good, bad = {"name": "Ann", "times": 2}, {"name": "Ann", "times": "often"}
        answer = "hello Ann, hello Ann"
        yield Specimen(tools, "tests_greet", good, answer, bad, "times", "tests_fail", "tests_hang")
    finally:
        await close_all(connections)


@asynccontextmanager
async def mcp_over_stdio():
    async with mcp_tools(McpServer(name="tests", command=sys.executable, args=(SERVER,))) as specimen:
        yield specimen


@asynccontextmanager
async def mcp_over_http():
    process = await asyncio.create_subprocess_exec(
        sys.executable, SERVER, "http", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        url = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
        async with mcp_tools(McpServer(name="tests", url=url)) as specimen:
            yield specimen
    finally:
        process.kill()
        await process.communicate()


MAKERS = {
    "sync": sync_functions,
    "async": async_functions,
    "builtin": builtins,
    "mcp": mcp_over_stdio,
    "mcp_http": mcp_over_http,
}


@pytest.fixture(params=KINDS, scope="module")  # a server takes a second to start
async def kind(request):
    if request.param.startswith("mcp") and not mcp_available():
        pytest.skip("MCP IS NOT TESTED: no extra `mcp`")
    async with MAKERS[request.param]() as specimen:
        yield specimen


@pytest.fixture
def tools(kind):
    return Tools(kind.tools)


@pytest.fixture
def runner(tools):
    return ToolRunner(tools, ToolLimits(timeout_s=10), SystemClock())


def a_call(name, given, **changes):
    fields = {"tenant": "default", "session": new_id(), "turn": new_id(), "id": "call_1", "name": name}
    return ToolCall(**fields, input_text=msgspec.json.encode(given).decode(), **changes)


async def test_a_model_can_be_told_of_it(kind, tools):
    """Names are what vendors accept, the schema is an object's, the description says something, and all of it can be
    kept and read again to the letter.
    """
    schemas = tools.schemas(tools.names())
    assert len(schemas) == len(kind.tools) > 0
    for schema in schemas:
        assert NAME.fullmatch(schema.name)
        assert schema.parameters["type"] == "object"
        assert schema.description
    kept = read_schemas(write_schemas(schemas))
    assert kept == schemas
    assert write_schemas(kept) == write_schemas(schemas)


async def test_it_has_all_that_the_contract_names(kind):
    """Every attribute of the contract is there."""
    for each in kind.tools:
        assert all(hasattr(each, name) for name in [*Tool.__annotations__, "check", "run"])
        assert each.approval is False


async def test_it_gives_its_answer(kind, tools, runner):
    """A good call runs, and its answer comes back as text with its size."""
    outcome = await runner.call(a_call(kind.name, kind.good), tools.names())
    assert (outcome.code, outcome.content, outcome.is_error) == ("completed", kind.answer, False)
    assert outcome.output_bytes == len(kind.answer)
    assert 0 <= outcome.duration_ms < 10_000


async def test_checking_has_no_effect(kind, tools, runner):
    """A check leaves the input as it was, and can be made as often as one likes."""
    given = msgspec.json.decode(msgspec.json.encode(kind.good))
    for _ in range(2):
        tools.get(kind.name).check(given)
        assert given == kind.good
    assert isinstance(runner.prepare(a_call(kind.name, given), tools.names()), ReadyCall)


async def test_bad_arguments_are_named(kind, tools, runner):
    """A call whose arguments do not fit is an error, and its words name the argument."""
    outcome = await runner.call(a_call(kind.name, kind.bad), tools.names())
    assert outcome.is_error
    assert kind.amiss in str(outcome.content)
    owner_alone_knows = isinstance(runner.prepare(a_call(kind.name, kind.bad), tools.names()), ReadyCall)
    assert outcome.code == ("tool_failed" if owner_alone_knows else "invalid_arguments")


async def test_a_failure_is_told_without_the_house(kind, tools, runner):
    """A tool that fails is an error for the model, which reads no stack trace and no path."""
    if kind.failing is None:
        pytest.skip("none of its tools fails so")
    outcome = await runner.call(a_call(kind.failing, {}), tools.names())
    assert (outcome.code, outcome.is_error) == ("tool_failed", True)
    assert "Traceback" not in outcome.content
    assert "/" not in outcome.content


async def test_one_that_hangs_is_given_up(kind, tools):
    """Its time limit ends it, and others of its kind still work."""
    if kind.hanging is None:
        pytest.skip("none of its tools hangs")
    runner = ToolRunner(tools, ToolLimits(timeout_s=0.3), SystemClock())
    started_s = time.monotonic()
    outcome = await runner.call(a_call(kind.hanging, {}), tools.names())
    assert (outcome.code, outcome.is_error) == ("tool_timed_out", True)
    assert "0.3 s" in outcome.content
    assert 0.3 <= time.monotonic() - started_s < 5
    after = await ToolRunner(tools, ToolLimits(), SystemClock()).call(a_call(kind.name, kind.good), tools.names())
    assert after.content == kind.answer


async def test_one_that_is_cancelled_ends(kind, tools, runner):
    """Whoever waits for it can stop waiting."""
    if kind.hanging is None:
        pytest.skip("none of its tools hangs")
    waiting = asyncio.create_task(runner.call(a_call(kind.hanging, {}), tools.names()))
    await asyncio.sleep(0.2)
    waiting.cancel()
    started_s = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert time.monotonic() - started_s < 3


async def test_it_is_called_from_many_turns_at_once(kind, tools, runner):
    """Calls side by side each get their own answer."""
    calls = [a_call(kind.name, kind.good) for _ in range(30)]
    outcomes = await asyncio.gather(*(runner.call(each, tools.names()) for each in calls))
    assert [outcome.content for outcome in outcomes] == [kind.answer] * 30


async def test_nothing_is_left_running(request):
    """When its source is closed, no child process of it is there."""
    before = set(psutil.Process().children(recursive=True))
    for name in KINDS if mcp_available() else KINDS[:3]:
        async with MAKERS[name]() as specimen:
            await ToolRunner(Tools(specimen.tools), ToolLimits(), SystemClock()).call(
                a_call(specimen.name, specimen.good), [specimen.name]
            )
    assert set(psutil.Process().children(recursive=True)) - before == set()
