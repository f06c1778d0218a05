"""Tools of MCP servers: names, results, failures, lost connections, and processes that die when they should. Against
real servers (``tests/mcp_server.py``), over their standard streams and over loopback HTTP.
"""

import asyncio
import os
import signal
import socket
import sys
import textwrap
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from manent.engine.clock import SystemClock, new_id
from manent.engine.errors import Invalid, ToolError
from manent.engine.events.blocks import Base64Source, ImageBlock, TextBlock
from manent.engine.tools.mcp.config import McpServer, check_server, mcp_available, read_servers
from manent.engine.tools.registry import Tools
from manent.engine.tools.runner import ToolCall, ToolLimits, ToolRunner

if mcp_available():
    from manent.engine.tools.mcp.client import McpConnection, close_all, connect_all

pytestmark = pytest.mark.skipif(not mcp_available(), reason="MCP IS NOT TESTED: no extra `mcp`")

ROOT = Path(__file__).parent.parent.parent
SERVER = str(ROOT / "tests" / "mcp_server.py")


def over_stdio(*args, **changes):
    return McpServer(**{"name": "tests", "command": sys.executable, "args": (SERVER, *args), **changes})


@asynccontextmanager
async def connected(server):
    """Its connection, its tools by name, and a way to call one."""
    connection = McpConnection(server)
    try:
        tools = Tools(await connection.start())
        runner = ToolRunner(tools, ToolLimits(timeout_s=20), SystemClock())

        async def call(name, input_text="{}", **changes):
            made = ToolCall(
                tenant="default", session=new_id(), turn=new_id(), id="1", name=name, input_text=input_text, **changes
            )
            return await runner.call(made, tools.names())

        yield connection, tools, call
    finally:
        await connection.aclose()


@asynccontextmanager
async def http_server(port=0, **environment):
    """A server process, and its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        SERVER,
        "http",
        str(port),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    try:
        yield (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
    finally:
        with suppress(ProcessLookupError):  # a test may have ended it
            process.kill()
        await process.communicate()


@asynccontextmanager
async def raw_server(answer):
    """Whatever connects is given these bytes, or nothing if None, and kept."""
    kept = []

    async def serve(reader, writer):
        kept.append(writer)
        if answer is not None:
            await reader.read(1)
            writer.write(answer)
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        for writer in kept:
            writer.close()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - processes send no events
            await asyncio.sleep(0.02)


def is_gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


# --- names and schemas ------------------------------------------------------------------------------------------------


async def test_tools_are_named_after_their_server():
    """Server, underscore, tool; a dot is no character of a name; description and schema are the server's."""
    async with connected(over_stdio(name="my-files")) as (_, tools, call):
        assert "my-files_which_process" in tools.names()
        greet = tools.get("my-files_greet")
        assert greet.description == "Says hello."
        assert greet.parameters["properties"]["name"] == {"title": "Name", "type": "string"}
        assert greet.parameters["required"] == ["name"]
        assert (await call("my-files_which_process")).code == "completed"


async def test_the_server_s_options_are_its_tools():
    """Approval and limits hold for each of its tools."""
    async with connected(over_stdio(approval=True, max_output_bytes=4)) as (_, tools, call):
        assert all(tools.get(name).approval for name in tools.names())
        assert (await call("tests_greet", '{"name": "Ann"}')).code == "tool_not_approved"
        cut = await call("tests_greet", '{"name": "Ann"}', approved=True)
        assert (cut.code, cut.content[:4], cut.output_bytes) == ("output_too_large", "hell", 9)
    async with connected(over_stdio(timeout_s=0.3)) as (_, _, call):
        assert (await call("tests_hang", approved=True)).code == "tool_timed_out"


async def test_names_that_become_one_are_refused():
    """Two tools that differ in a dot alone cannot both be called."""
    with pytest.raises(ToolError, match="two tools of one MCP server get the name tests_a_b"):
        async with connected(over_stdio("clashing")):
            pass


async def test_a_name_that_is_too_long_is_refused():
    """Nothing is cut: the model's calls could not be told apart."""
    with pytest.raises(ToolError, match="64 characters"):
        async with connected(over_stdio("long")):
            pass


async def test_all_pages_of_a_list_are_read():
    """In the server's order."""
    async with connected(over_stdio("paged")) as (_, tools, call):
        assert tools.names() == ("tests_one", "tests_two", "tests_three")
        assert (await call("tests_two", '{"a": 1}')).content == '{"called":"two","with":{"a":1}}'


async def test_a_list_without_an_end_is_refused():
    """A server cannot keep us reading."""
    with pytest.raises(ToolError, match="more than 100 pages"):
        async with connected(over_stdio("endless")):
            pass


# --- results ----------------------------------------------------------------------------------------------------------


async def test_content_of_every_kind_comes_over():
    """Text and images are themselves, what no model can take is mentioned, in order."""
    async with connected(over_stdio()) as (_, _, call):
        outcome = await call("tests_pieces")
        assert outcome.content == (
            TextBlock("some text"),
            ImageBlock(Base64Source("image/png", "iVBORw0KGgo=")),
            TextBlock("[sound of type audio/wav, not shown]"),
            TextBlock("[the resource note://1]\na note"),
            TextBlock("[the resource blob://1 of type x/y, not shown]"),
            TextBlock("[a link to the resource more: note://2]"),
        )
        nothing = await call("tests_nothing")
        assert (nothing.code, nothing.content) == ("completed", "")


async def test_a_server_s_error_is_an_error():
    """What it says of a failure or of bad arguments is for the model to read."""
    async with connected(over_stdio()) as (connection, _, call):
        failed = await call("tests_fail")
        assert (failed.code, failed.is_error, failed.content) == ("tool_failed", True, "Error executing tool fail")
        wrong = await call("tests_greet", "{}")
        assert wrong.is_error
        assert "name" in wrong.content
        assert (await call("tests_greet", "[]")).code == "invalid_arguments"
        assert (await connection.call("gone", {})).is_error


async def test_a_protocol_error_is_told_in_the_server_s_words():
    """An error of the protocol and not of the tool fails the call, and the connection stays."""
    async with connected(over_stdio("refusing")) as (_, _, call):
        for _ in range(2):
            outcome = await call("tests_any")
            assert (outcome.code, outcome.is_error) == ("tool_failed", True)
            assert outcome.content == "tests_any failed: the MCP server tests refused: not on a Sunday"


async def test_an_answer_against_its_own_schema_fails_the_call():
    """The package checks structured content; what does not fit is no result."""
    async with connected(over_stdio("lying")) as (_, _, call):
        outcome = await call("tests_any")
        assert outcome.code == "tool_failed"
        assert "does not fit its own schema" in outcome.content


async def test_a_server_gets_no_secrets_of_ours(monkeypatch):
    """Of the environment it has what it needs to start, and what the operator gave it."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    async with connected(over_stdio(env={"TOKEN": "given"})) as (_, _, call):
        names = (await call("tests_environment")).content.split()
        assert "ANTHROPIC_API_KEY" not in names
        assert {"TOKEN", "PATH"} <= set(names)


async def test_calls_run_side_by_side():
    """A call that hangs holds up no other."""
    async with connected(over_stdio()) as (_, _, call):
        hanging = asyncio.create_task(call("tests_hang"))
        await asyncio.sleep(0.1)
        assert (await call("tests_greet", '{"name": "Ann"}')).content == "hello Ann"
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging


# --- lost connections -------------------------------------------------------------------------------------------------


async def test_a_server_that_died_between_calls_is_started_again():
    """The next call finds a new one."""
    async with connected(over_stdio()) as (connection, _, call):
        first = int((await call("tests_which_process")).content)
        os.kill(first, signal.SIGKILL)
        await until(lambda: connection._held.is_lost)
        second = await call("tests_which_process")
        assert second.code == "completed"
        assert int(second.content) != first


async def test_a_call_is_never_made_twice():
    """A server that dies under a call may have done its work: the call fails, and the one after it is served."""
    async with connected(over_stdio()) as (_, _, call):
        outcome = await call("tests_die")
        assert (outcome.code, outcome.is_error) == ("tool_failed", True)
        assert "whether the call took effect is not known" in outcome.content
        assert (await call("tests_greet", '{"name": "Ann"}')).content == "hello Ann"


async def test_calls_at_the_same_time_start_one_server():
    """Whoever comes while it is being started waits for it."""
    async with connected(over_stdio()) as (connection, _, call):
        os.kill(int((await call("tests_which_process")).content), signal.SIGKILL)
        await until(lambda: connection._held.is_lost)
        outcomes = await asyncio.gather(*(call("tests_which_process") for _ in range(5)))
        assert len({outcome.content for outcome in outcomes}) == 1


async def test_a_server_that_does_not_come_back_fails_the_call(tmp_path):
    """Told in words; the engine goes on."""
    command = tmp_path / "server"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    command.chmod(0o755)
    async with connected(over_stdio(command=str(command))) as (connection, _, call):
        command.unlink()
        os.kill(int((await call("tests_which_process")).content), signal.SIGKILL)
        await until(lambda: connection._held.is_lost)
        outcome = await call("tests_greet", '{"name": "Ann"}')
        assert outcome.code == "tool_failed"
        assert "could not be started: there is no such command" in outcome.content
        assert str(tmp_path) not in outcome.content


async def test_after_closing_nothing_is_called():
    """A closed connection starts no server again."""
    async with connected(over_stdio()) as (connection, _, call):
        await connection.aclose()
        assert "is closed" in (await call("tests_greet", '{"name": "Ann"}')).content
        await connection.aclose()


# --- servers that cannot start ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"command": "no-such-command"}, "could not be started: there is no such command"),
        ({"command": "false", "args": ()}, "did not complete the handshake: Connection closed"),
        ({"command": "echo", "args": ("this is no protocol",)}, "did not complete the handshake: Connection closed"),
        ({"args": (SERVER, "silent"), "connect_timeout_s": 0.5}, "was not ready within 0.5 s"),
    ],
)
async def test_a_server_that_cannot_start_is_said(changes, words):
    """Which server and why, without a path; and no process is left."""
    before = set(psutil.Process().children(recursive=True))
    connection = McpConnection(over_stdio(**changes))
    with pytest.raises(ToolError) as caught:
        await connection.start()
    assert caught.value.detail == f"the MCP server tests {words}"
    assert set(psutil.Process().children(recursive=True)) == before
    await connection.aclose()


async def test_one_that_cannot_start_closes_the_others():
    """Either all are connected or none is."""
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(ToolError, match="the MCP server b could not be started"):
        await connect_all([over_stdio(name="a"), over_stdio(name="b", command="no-such-command")])
    assert set(psutil.Process().children(recursive=True)) == before


async def test_several_servers_are_one_list_of_tools():
    """In the order of the servers."""
    connections, tools = await connect_all([over_stdio("paged", name="b"), over_stdio("paged", name="a")])
    try:
        assert Tools(tools).names() == ("b_one", "b_two", "b_three", "a_one", "a_two", "a_three")
    finally:
        await close_all(connections)


# --- processes --------------------------------------------------------------------------------------------------------


async def test_a_deaf_server_is_ended():
    """One that lives on when its input ends is killed at closing."""
    async with connected(over_stdio("deaf")) as (_, _, call):
        pid = int((await call("tests_which_process")).content)
    assert is_gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills the children of a process that was killed")
async def test_a_deaf_server_dies_with_us():
    """However we die: the engine's process is killed, and its server, which never looks at its input, goes too."""
    script = textwrap.dedent(f"""
        import asyncio, sys, time
        from manent.engine.tools.mcp.client import McpConnection
        from manent.engine.tools.mcp.config import McpServer

        async def main():
            connection = McpConnection(McpServer(name="tests", command=sys.executable, args=({SERVER!r}, "deaf")))
            await connection.start()
            result = await connection.call("which.process", {{}})
            print(result.content[0].text, flush=True)
            time.sleep(60)

        asyncio.run(main())
    """)
    engine = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}
    )
    pid = int(await asyncio.wait_for(engine.stdout.readline(), 20))
    assert not is_gone(pid)
    engine.kill()
    await engine.communicate()
    await until(lambda: is_gone(pid))


# --- over HTTP --------------------------------------------------------------------------------------------------------


async def test_headers_go_to_the_server():
    """A key in the headers opens the door; without it the server is not reached, and the words hold no address."""
    async with http_server(KEY="sesame") as url:
        headers = {"authorization": "Bearer sesame"}
        async with connected(McpServer(name="web", url=url, headers=headers)) as (_, _, call):
            assert (await call("web_greet", '{"name": "Ann"}')).content == "hello Ann"
        with pytest.raises(ToolError) as caught:
            await McpConnection(McpServer(name="web", url=url)).start()
        assert caught.value.detail.startswith("the MCP server web did not complete the handshake: ")
        assert "127.0.0.1" not in caught.value.detail


@pytest.mark.parametrize("old", [{}, {"OLD": "1"}], ids=["new protocol", "old protocol"])
async def test_a_server_that_was_started_again_is_found_again(old):
    """Gone, a call fails; back at its address, the next one is served."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with http_server(port, **old) as url:
        connection = McpConnection(McpServer(name="web", url=url))
        tools = Tools(await connection.start())
        assert "web_greet" in tools.names()
    with pytest.raises(ToolError, match=r"the MCP server web could not be reached|was lost"):
        await connection.call("greet", {"name": "Ann"})
    async with http_server(port, **old):
        result = await connection.call("greet", {"name": "Ann"})
        assert result.content[0].text == "hello Ann"
        await connection.aclose()


async def test_a_server_that_forgot_us_is_greeted_again():
    """In the old protocol a server has sessions; one that was started again between two calls does not know ours,
    says so before it does anything, and is greeted again.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with http_server(port, OLD="1") as url:
        connection = McpConnection(McpServer(name="web", url=url))
        await connection.start()
        assert connection._held.client.session.initialize_result is not None
    async with http_server(port, OLD="1"):
        results = await asyncio.gather(*(connection.call("greet", {"name": "Ann"}) for _ in range(3)))
        assert [result.content[0].text for result in results] == ["hello Ann"] * 3
        await connection.aclose()


async def test_a_server_that_dies_under_a_call_fails_it():
    """The call ends at once, and not with its time."""
    async with http_server() as url, connected(McpServer(name="web", url=url)) as (_, _, call):
        outcome = await asyncio.wait_for(call("web_die"), 15)
        assert outcome.code == "tool_failed"
        assert outcome.is_error


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", "did not complete the handshake"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\n<ht>",
            "did not complete the handshake",
        ),
        (
            b"HTTP/1.1 307 No\r\nlocation: http://example.org/\r\ncontent-length: 0\r\n\r\n",
            "did not complete the handshake",
        ),
        (b"", "could not be reached|did not complete the handshake"),
        (None, "was not ready within 0.5 s"),
    ],
    ids=["500", "html", "elsewhere", "hangs up", "stalls"],
)
async def test_an_address_that_is_no_server_is_said(answer, words):
    """Whatever it answers, the failure names the server, is a ToolError and comes in time."""
    async with raw_server(answer) as url:
        connection = McpConnection(McpServer(name="web", url=url, connect_timeout_s=0.5 if answer is None else 5))
        with pytest.raises(ToolError, match=f"the MCP server web ({words})"):
            await asyncio.wait_for(connection.start(), 15)
        await connection.aclose()


async def test_an_address_where_nobody_listens_is_said():
    """Refused connections too."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/mcp"
    with pytest.raises(ToolError, match="the MCP server web could not be reached: ConnectError"):
        await McpConnection(McpServer(name="web", url=url)).start()


# --- the operator's file ----------------------------------------------------------------------------------------------


def test_servers_are_read_from_a_file():
    """The form that MCP clients share; names are the keys, the order is kept, other members are not ours."""
    servers = read_servers(b"""{"other": 1, "mcpServers": {
        "files": {"command": "mcp-files", "args": ["--read-only"], "env": {"TOKEN": "secret"}},
        "web": {"url": "https://search.example/mcp", "headers": {"authorization": "Bearer secret"}, "approval": true}
    }}""")
    assert [(server.name, server.command, server.url, server.approval) for server in servers] == [
        ("files", "mcp-files", None, False),
        ("web", None, "https://search.example/mcp", True),
    ]
    assert servers[0].args == ("--read-only",)
    assert "secret" not in repr(servers)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "is not JSON"),
        ("{}", "missing required field `mcpServers`"),
        ('{"mcpServers": {"a": {}}}', "a needs a command or a url"),
        ('{"mcpServers": {"a": {"command": "x", "url": "https://x.example"}}}', "a needs a command or a url"),
        ('{"mcpServers": {"a b": {"command": "x"}}}', "'a b' must be 1 to 32 characters"),
        ('{"mcpServers": {"a": {"url": "ftp://x.example"}}}', "a has a url that is not an http or https address"),
        ('{"mcpServers": {"a": {"comand": "secret"}}}', "unknown field `comand`"),
        ('{"mcpServers": {"a": {"command": "x", "timeout_s": 0}}}', "timeout_s"),
    ],
)
def test_a_file_that_is_wrong_is_refused(text, words):
    """With what is wrong, and nothing secret."""
    with pytest.raises(Invalid) as caught:
        read_servers(text.encode())
    assert words in caught.value.detail
    assert "secret" not in caught.value.detail


def test_a_server_needs_a_name():
    """Its tools are named after it."""
    with pytest.raises(Invalid, match="must be 1 to 32"):
        check_server(McpServer(command="x"))
