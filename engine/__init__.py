"""Manent's engine: an event-sourced chat that keeps its record.

    import asyncio
    from manent import engine

    async def main():
        async with engine.open("chat.db") as chat:
            session = await chat.create_session(model="echo/echo")
            turn = await chat.say(session.id, "Is this on record?")
            print(engine.text_of(turn.message.blocks()))

    asyncio.run(main())

Everything that routes and scripts use is named here, and nothing is defined here.
"""

from .audit.proof import Consistency, Inclusion
from .audit.rollback import Accepted
from .audit.verify.database import Verified
from .bootstrap import (
    accept_break,
    examine_database,
    existing_database,
    import_bundle,
    migrate_database,
    open_beside,
    rebuild_projections,
    verify_database,
)
from .bootstrap import open_engine as open  # noqa: A004 - engine.open(...) is what it is for
from .clock import new_id, rfc3339
from .context.prompt import Limits
from .errors import (
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
from .events.blocks import ToolSchema, text_content, text_of
from .events.usage import Usage
from .log.base import RequestKey
from .log.rebuild import Rebuilt
from .log.sqlite.connection import database_path
from .log.sqlite.doctor import Finding
from .log.sqlite.lock import check_unlocked, tell_address
from .service.discovery import Model as ModelInfo
from .service.discovery import ToolInfo
from .service.engine import Conversation
from .service.erasure import Erasure, Retained, erase, purge, retain
from .service.export import export_bundle, export_messages
from .service.figures import Load, Standing
from .service.import_bundle import Imported
from .service.inputs import MessageIn, check_tenant, is_correlation
from .service.replay.playback import play_back, read_pace
from .service.replay.rerun import Rerun, differences, run_again
from .sessions.envelope import LOCAL, Caller
from .sessions.views import Event, Message, Session, Turn, Window
from .settings import Settings, env_name, from_mapping, unknown_names, version
from .streams.follow import SHUTTING_DOWN
from .streams.frames import Frame
from .tools.base import Tool, ToolContext, ToolOutput
from .tools.functions import tool
from .turns.approvals import Decision
from .turns.observer import EndedAttempt, EndedTurn, Observer
from .turns.start import Ask, Started

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
    "EndedAttempt",
    "EndedTurn",
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
    "Load",
    "Message",
    "MessageIn",
    "ModelInfo",
    "NotFound",
    "Observer",
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
    "Standing",
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
    "check_tenant",
    "check_unlocked",
    "database_path",
    "differences",
    "env_name",
    "erase",
    "examine_database",
    "existing_database",
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
    "tell_address",
    "text_content",
    "text_of",
    "tool",
    "unknown_names",
    "verify_database",
    "version",
]
