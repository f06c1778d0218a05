"""The contract of a tool: a name, a description and a schema for the model, and code that runs.

Rules that every member keeps, and ``tests/contracts/test_tools.py`` checks:

* ``name`` fits ``NAME``; ``parameters`` is a JSON Schema of type object. Neither changes while the tool is registered.
* ``check`` raises Invalid if the input cannot be accepted, and its words name the argument. It has no effect and no
  I/O, so that a call can be refused before a person is asked to approve it. Checks that only the tool's owner can make
  (an MCP server checks its own arguments) are made when the tool runs.
* ``run`` takes an input that passed ``check``. It reports a failure by ``ToolOutput(…, is_error=True)`` or by a
  ToolError, whose words the model reads; of any other exception the model is told only the type. It may be cancelled at
  any await, and is cancelled when its time is up.
* A tool may be called from many turns at once.

Limits, the allow-list, approval and the form of the output are the runner's (``engine/tools/runner.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol, TypeVar
from uuid import UUID

import msgspec

from ..events.blocks import ToolContent

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""The names that all vendors accept for a tool."""


class Threads(Protocol):
    """Threads in which a tool runs blocking code, so that it does not block the event loop."""

    async def run(self, function: Callable[[], T]) -> T:
        """Run the function in a free thread: its result, or its exception."""
        ...


class ToolContext(msgspec.Struct, frozen=True):
    """The context of a call: ``call`` is the id that the model gave it. ``threads`` run blocking code."""

    tenant: str
    session: UUID
    turn: UUID
    call: str
    threads: Threads


class ToolOutput(msgspec.Struct, frozen=True):
    """The output that the model is given."""

    content: ToolContent
    is_error: bool = False


class Tool(Protocol):
    """One tool. ``approval``: a person must approve each call; ``timeout_s`` and ``max_output_bytes``: its own limits
    in place of the common ones.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    approval: bool
    timeout_s: float | None
    max_output_bytes: int | None

    def check(self, given: dict[str, Any]) -> None:
        """Raises Invalid if the tool cannot be called with this input."""
        ...

    async def run(self, given: dict[str, Any], context: ToolContext) -> ToolOutput:
        """Call the tool. Raises ToolError; see the module's rules."""
        ...
