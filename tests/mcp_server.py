"""A real MCP server for the tests, over its standard streams or over streamable HTTP.

python mcp_server.py              speaks over stdin and stdout
python mcp_server.py deaf         the same, and lives on when its input has ended
python mcp_server.py silent       says nothing at all
python mcp_server.py clashing     two of its tools have names that differ in a dot alone
python mcp_server.py paged        lists its tools one by one
python mcp_server.py endless      lists its tools on pages without an end
python mcp_server.py long         has a tool with a very long name
python mcp_server.py refusing     answers every call with an error of the protocol
python mcp_server.py lying        breaks the schema of its own output
python mcp_server.py http [PORT]  serves http://127.0.0.1:PORT/mcp, and prints that address when it listens
"""

import asyncio
import os
import socket
import sys
import time

import mcp_types as types
import uvicorn
from mcp import MCPError
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Image, MCPServer
from mcp.server.stdio import stdio_server

ODD = {
    "clashing": ["a.b", "a_b"],
    "paged": ["one", "two", "three"],
    "endless": ["again"],
    "long": ["x" * 80],
    "refusing": ["any"],
    "lying": ["any"],
}
PIXEL = b"\x89PNG\r\n\x1a\n"

server = MCPServer("tests")


@server.tool()
def greet(name: str, times: int = 1) -> str:
    """Says hello."""
    return ", ".join([f"hello {name}"] * times)


@server.tool(name="which.process", structured_output=False)
def which_process() -> str:
    """The id of the server's process."""
    return str(os.getpid())


@server.tool()
def fail() -> str:
    """Always fails."""
    raise ValueError("no luck today")


@server.tool()
async def hang() -> str:
    """Does not end."""
    await asyncio.sleep(3600)
    return "never"


@server.tool(structured_output=False)
def die() -> str:
    """Ends the server in the middle of a call."""
    os._exit(1)


@server.tool(structured_output=False)
def pieces() -> list:
    """Content of every kind."""
    return [
        "some text",
        Image(data=PIXEL, format="png"),
        types.AudioContent(data="AAAA", mime_type="audio/wav"),
        types.EmbeddedResource(resource=types.TextResourceContents(uri="note://1", text="a note")),
        types.EmbeddedResource(resource=types.BlobResourceContents(uri="blob://1", blob="AAAA", mime_type="x/y")),
        types.ResourceLink(name="more", uri="note://2"),
    ]


@server.tool(structured_output=False)
def nothing() -> list:
    """No content at all."""
    return []


@server.tool(structured_output=False)
def environment() -> str:
    """The names of the environment's variables."""
    return " ".join(sorted(os.environ))


def low_level(mode):
    """A server on the wire itself, for lists that the comfortable one would not make."""
    names = ODD[mode]

    async def list_tools(context, params):
        at = int(params.cursor or 0) if params else 0
        page = names if mode == "clashing" else [names[at % len(names)]]
        last = mode != "endless" and (mode == "clashing" or at == len(names) - 1)
        output = {"type": "object", "required": ["truth"]} if mode == "lying" else None
        tools = [types.Tool(name=name, input_schema={"type": "object"}, output_schema=output) for name in page]
        return types.ListToolsResult(tools=tools, next_cursor=None if last else str(at + 1))

    async def call_tool(context, params):
        if mode == "refusing":
            raise MCPError(types.INVALID_REQUEST, "not on a Sunday")
        structured = {"called": params.name, "with": params.arguments}
        return types.CallToolResult(content=[], structured_content=structured)

    return Server("tests", on_list_tools=list_tools, on_call_tool=call_tool)


async def speak(low):
    async with stdio_server() as (incoming, outgoing):
        await low.run(incoming, outgoing, low.create_initialization_options())


def serve_http(port):
    """KEY in the environment: for those only who send it. OLD: it knows only the protocol of 2025, with sessions."""
    listening = socket.create_server(("127.0.0.1", port))
    port = listening.getsockname()[1]
    app = guarded(server.streamable_http_app(), os.environ.get("KEY"), is_old="OLD" in os.environ)
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    print(f"http://127.0.0.1:{port}/mcp", flush=True)  # noqa: T201 - who started it reads this
    uvicorn.Server(config).run([listening])


def guarded(app, key, *, is_old):
    async def answer(scope, receive, send):
        headers = dict(scope.get("headers", ()))
        barred = key and scope["type"] == "http" and headers.get(b"authorization") != f"Bearer {key}".encode()
        unknown = is_old and headers.get(b"mcp-method") == b"server/discover"
        if barred or unknown:
            await send({"type": "http.response.start", "status": 401 if barred else 404, "headers": []})
            await send({"type": "http.response.body", "body": b"no"})
        else:
            await app(scope, receive, send)

    return answer


def main():
    mode, *rest = sys.argv[1:] or ["stdio"]
    if mode == "http":
        serve_http(int(rest[0]) if rest else 0)
    elif mode == "silent":
        time.sleep(3600)
    elif mode in ODD:
        asyncio.run(speak(low_level(mode)))
    else:
        server.run()
        if mode == "deaf":
            time.sleep(3600)


if __name__ == "__main__":
    main()
