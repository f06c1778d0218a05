"""Manent's engine: an event-sourced chat that keeps its record.

    import asyncio, engine

    async def main():
        async with engine.open("chat.db") as chat:
            session = await chat.create_session(model="echo/echo")
            turn = await chat.say(session.id, "Is this on record?")
            print(engine.text_of(turn.message.blocks()))

    asyncio.run(main())

Everything that routes and scripts use is named here, and nothing is defined here.
"""

from engine.asking import Ask, Started
from engine.audit.proof import Consistency, Inclusion
from engine.audit.standing import Accepted
from engine.audit.verify import Verified
from engine.bootstrap import (
    accept_break,
    examine_database,
    migrate_database,
    open_beside,
    rebuild_projections,
    verify_database,
)
from engine.bootstrap import open_engine as open  # noqa: A004 - engine.open(...) is what it is for
from engine.clock import new_id, rfc3339
from engine.content import text_content, text_of
from engine.conversation import Conversation
from engine.deciding import Decision
from engine.envelope import LOCAL, Caller
from engine.erasure import Erasure, Retained, erase, purge, retain
from engine.errors import (
    BudgetTooSmall,
    CheckpointNotFound,
    Conflict,
    EmptyMessage,
    EngineError,
    Erased,
    Invalid,
    LegalHold,
    NotFound,
    Overloaded,
    ProviderError,
    Refused,
    SessionArchived,
    SessionNotFound,
    StoreError,
    StoreFull,
    StoreLocked,
    TooLarge,
    ToolError,
    TurnAlreadyOpen,
    TurnNotFound,
    UnknownModel,
    VersionConflict,
)
from engine.events import Usage
from engine.exporting import export_bundle, export_messages
from engine.importing import Imported, import_bundle
from engine.inputs import is_correlation
from engine.intake import MessageIn
from engine.planning import Limits
from engine.providers.base import ToolSchema
from engine.reading_along import SHUTTING_DOWN
from engine.replay import Rerun, differences, play_back, read_pace, run_again
from engine.settings import Settings, from_mapping
from engine.store.base import RequestKey
from engine.store.doctor import Finding
from engine.store.rebuild import Rebuilt
from engine.tools.base import Tool, ToolContext, ToolOutput
from engine.tools.functions import tool
from engine.version import version
from engine.views import Event, Frame, Message, Session, ToolInfo, Turn, Window
from engine.views import Model as ModelInfo

__all__ = [
    "LOCAL",
    "SHUTTING_DOWN",
    "Accepted",
    "Ask",
    "BudgetTooSmall",
    "Caller",
    "CheckpointNotFound",
    "Conflict",
    "Consistency",
    "Conversation",
    "Decision",
    "EmptyMessage",
    "EngineError",
    "Erased",
    "Erasure",
    "Event",
    "Finding",
    "Frame",
    "Imported",
    "Inclusion",
    "Invalid",
    "LegalHold",
    "Limits",
    "Message",
    "MessageIn",
    "ModelInfo",
    "NotFound",
    "Overloaded",
    "ProviderError",
    "Rebuilt",
    "Refused",
    "RequestKey",
    "Rerun",
    "Retained",
    "Session",
    "SessionArchived",
    "SessionNotFound",
    "Settings",
    "Started",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "TooLarge",
    "Tool",
    "ToolContext",
    "ToolError",
    "ToolInfo",
    "ToolOutput",
    "ToolSchema",
    "Turn",
    "TurnAlreadyOpen",
    "TurnNotFound",
    "UnknownModel",
    "Usage",
    "Verified",
    "VersionConflict",
    "Window",
    "accept_break",
    "differences",
    "erase",
    "examine_database",
    "export_bundle",
    "export_messages",
    "from_mapping",
    "import_bundle",
    "is_correlation",
    "migrate_database",
    "new_id",
    "open",
    "open_beside",
    "play_back",
    "purge",
    "read_pace",
    "rebuild_projections",
    "retain",
    "rfc3339",
    "run_again",
    "text_content",
    "text_of",
    "tool",
    "verify_database",
    "version",
]
