"""What a tool is: a name, a description and a schema for the model, and something that runs.

Rules every member keeps, and ``tests/contracts/test_tools.py`` checks:

* ``name`` fits ``NAME``; ``parameters`` is a JSON Schema of type object. Neither changes while the tool is registered.
* ``check`` raises Invalid if the input cannot be taken, and its words name the argument; it has no effect and asks
  nobody, so that a call can be refused before a person is asked to approve it. What only the tool's owner knows of its
  arguments (an MCP server checks its own) comes out when it runs.
* ``run`` takes an input that passed ``check``. It says what went wrong by ``ToolOutput(…, is_error=True)`` or by a
  ToolError, whose words the model reads; of any other exception the model is told the type and no more. It may be
  cancelled at any await, and is when its time is up.
* A tool is called from many turns at once.

Limits, the allow-list, approval and the form of what comes back are the runner's (``engine/tools/runner.py``).
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
"""What all vendors accept as the name of a tool."""


class Threads(Protocol):
    """Where a tool runs what blocks, so that it does not hold up everybody else."""

    async def run(self, function: Callable[[], T]) -> T:
        """What the function returns or raises, once a thread is free and has run it."""
        ...


class ToolContext(msgspec.Struct, frozen=True):
    """For whom a tool runs: ``call`` is the id of the model's call. ``threads`` takes what blocks."""

    tenant: str
    session: UUID
    turn: UUID
    call: str
    threads: Threads


class ToolOutput(msgspec.Struct, frozen=True):
    """What the model is given back."""

    content: ToolContent
    is_error: bool = False


class Tool(Protocol):
    """One tool. ``approval``: a person must say yes to each call; ``timeout_s`` and ``max_output_bytes``: its own
    limits in place of the common ones.
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
        """Call it. Raises ToolError; see the module's rules."""
        ...
