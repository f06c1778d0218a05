"""MCP servers as an operator configures them: a file in the form that MCP clients share.

    {"mcpServers": {
        "files": {"command": "mcp-files", "args": ["--read-only"], "env": {"TOKEN": "…"}},
        "search": {"url": "https://search.example/mcp", "headers": {"authorization": "Bearer …"}, "approval": true}
    }}

A server has a command (it speaks over stdin and stdout) or an address (streamable HTTP). ``env`` and ``headers`` may
hold secrets, which are never shown here. This file does not need the ``mcp`` package; ``client.py`` does.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.util import find_spec
from typing import Annotated

import msgspec
from msgspec import Meta

from ...errors import Invalid

_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_ADDRESS = re.compile(r"https?://[^\s/]+(/\S*)?")

# The child runs this first: Linux kills it when we die, even if it never reads its input again.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""

Seconds = Annotated[float, Meta(gt=0)]


class McpServer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One server. ``approval``: each call of its tools needs a person's approval; ``timeout_s`` and
    ``max_output_bytes`` are the limits of its tools. Of our environment its process gets what it needs to start (PATH,
    HOME …), and ``env``.
    """

    name: str = ""
    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    url: str | None = None
    headers: dict[str, str] = {}
    approval: bool = False
    timeout_s: Seconds | None = None
    max_output_bytes: Annotated[int, Meta(ge=1)] | None = None
    connect_timeout_s: Seconds = 30.0
    """For starting the server, connecting to it and listing its tools."""

    def __repr__(self) -> str:
        return f"McpServer({self.name!r})"


class _File(msgspec.Struct):
    servers: dict[str, McpServer] = msgspec.field(name="mcpServers")


def mcp_available() -> bool:
    """True if the extra is installed, so that ``engine.tools.mcp.client`` can be imported."""
    return find_spec("mcp") is not None


def read_servers(data: bytes) -> tuple[McpServer, ...]:
    """The servers of a file, in its order. Raises Invalid, which names the server and never shows a secret."""
    try:
        servers = msgspec.json.decode(data, type=_File).servers
    except msgspec.ValidationError as error:
        raise Invalid("mcp_servers_file", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Invalid("mcp_servers_file", "is not JSON") from None
    named = tuple(msgspec.structs.replace(server, name=name) for name, server in servers.items())
    for server in named:
        check_server(server)
    return named


def check_server(server: McpServer) -> None:
    """Raises Invalid if this cannot be a server."""
    if not _NAME.fullmatch(server.name):
        raise Invalid("mcp_servers_file", f"{server.name[:80]!r} must be 1 to 32 characters of A-Z a-z 0-9 _ -")
    if (server.command is None) == (server.url is None):
        raise Invalid("mcp_servers_file", f"{server.name} needs a command or a url, and not both")
    if server.url is not None and not _ADDRESS.fullmatch(server.url):
        raise Invalid("mcp_servers_file", f"{server.name} has a url that is not an http or https address")


def command_line(server: McpServer) -> list[str]:
    """The command line of a server. Raises FileNotFoundError if there is no such command: a server that does not start
    would look like one that ends the connection.
    """
    found = shutil.which(server.command or "", path=server.env.get("PATH"))
    if found is None:
        raise FileNotFoundError
    guard = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())] if sys.platform == "linux" else []
    return [*guard, found, *server.args]
