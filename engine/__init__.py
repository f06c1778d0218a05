"""Manent's engine: an event-sourced chat that keeps its record.

    import asyncio
    from manent import engine

    async def main():
        async with engine.open("chat.db") as chat:
            session = await chat.create_session(model="echo/echo")
            turn = await chat.say(session.id, "Is this on record?")
            print(turn.text)

    asyncio.run(main())

Everything that routes and scripts use is named here, and nothing is defined here.
"""

from . import errors
from .access.limits import KeyLimit
from .audit.proof import Consistency, Inclusion
from .audit.rollback import Accepted, Problem
from .audit.verify.database import Unwitnessed, Verified
from .bootstrap import (
    accept_break,
    examine_database,
    existing_database,
    import_bundle,
    migrate_database,
    open_beside,
    open_sync,
    rebuild_projections,
    verify_database,
)
from .bootstrap import open_engine as open  # noqa: A004 - engine.open(...) is what it is for
from .clock import Clock, new_id, rfc3339
from .errors import (
    AlreadyImported,
    AuditError,
    Behind,
    Broken,
    BudgetTooSmall,
    CheckpointNotFound,
    CircuitOpen,
    Conflict,
    ContentNotSupported,
    ContextTooLong,
    EmptyMessage,
    EngineError,
    Erased,
    EventNotFound,
    IdempotencyMismatch,
    Invalid,
    LegalHold,
    NoDecisionAwaited,
    NoExactCount,
    NotFound,
    NothingToAnswer,
    NotYet,
    Overloaded,
    ProofInvalid,
    ProviderError,
    ProviderMalformed,
    ProviderRejected,
    ProviderTimedOut,
    ProviderTooLarge,
    ProviderTruncated,
    ProviderUnavailable,
    RateLimited,
    RecordDamaged,
    Refused,
    SecretMismatch,
    SessionArchived,
    SessionExpired,
    SessionFull,
    SessionNotFound,
    ShuttingDown,
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreLocked,
    StoreNewer,
    StoreOlder,
    StoreUnavailable,
    TooLarge,
    ToolCallNotFound,
    ToolError,
    ToolResultsMissing,
    TurnAlreadyOpen,
    TurnLimitReached,
    TurnNotFound,
    TurnNotOpen,
    UnknownModel,
    UnknownRenderer,
    VersionConflict,
)
from .events.blocks import (
    Base64Source,
    Block,
    Content,
    ImageBlock,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolSchema,
    ToolUseBlock,
    UrlSource,
    text_content,
    text_of,
)
from .events.turn_types import CacheMarks, ClientFacts, Protocol
from .events.types import EVENT_TYPES
from .events.usage import Cost, Price, Rates, Tier, Usage
from .log.base import RequestKey
from .log.rebuild import Rebuilt
from .log.sqlite.connection import database_path
from .log.sqlite.doctor import Finding
from .log.sqlite.lock import check_unlocked, tell_address
from .providers.base import (
    BlockStarted,
    BlockStopped,
    Chunk,
    Delta,
    Effort,
    Ended,
    FormatType,
    ModelInfo,
    Parameters,
    Prompt,
    PromptMessage,
    Provider,
    Reasoning,
    ResponseFormat,
    UsageReported,
    VendorBlock,
)
from .providers.registry import Providers
from .service.answers import ClientAnswer
from .service.asked import AskedMessage
from .service.client_places import PreviousNotCompleted, PreviousNotFound
from .service.client_request import ClientRequest, Retry
from .service.conversation_files.base import InvalidConversation
from .service.conversation_files.reading import ConversationFile, read_conversation
from .service.conversation_files.running import ConversationRun, TurnCheck, Unmet
from .service.counting import TokenCount
from .service.discovery import Model, ToolInfo
from .service.engine import Engine
from .service.erasure import Erasure
from .service.evidence import Evidence
from .service.figures import Load, Standing
from .service.ids import Id
from .service.import_bundle import Imported
from .service.inputs import MessageIn, check_content, check_tenant, is_correlation
from .service.page_policy import page_policy
from .service.paging import Page
from .service.reach import Holder
from .service.replay.orders import (
    LiveTools,
    NothingToReplay,
    ReplayOptions,
    ReplayQuery,
    ReplayWhere,
    SuiteNotFound,
)
from .service.replay.playback import read_pace
from .service.replay.report import policy as report_policy
from .service.replay.results import FirstDifference, Layers, Measure, Result
from .service.replay.views import NumberedResult, Replay, ReplayCounts
from .service.replay.words_diff import Span, words_diff
from .service.salvage import Salvage
from .service.serving import Serving
from .service.session_fields import NewSession, SessionChanges, SessionFilter
from .service.stream_erasure import Retained
from .service.suites import Suite, SuiteItem
from .service.sync import SyncEngine, SyncEvidence, SyncSalvage, SyncTextStream
from .service.text_stream import TextStream
from .service.transcript.html import policy as transcript_policy
from .service.turns import TurnOptions
from .sessions.aliases import Alias
from .sessions.envelope import LOCAL, Caller
from .sessions.prompt_views import LeftOut, MessageCount, SentPrompt, SentWindow, WindowMessage
from .sessions.replay_decisions import ReplayEnded, ReplayNotFound
from .sessions.replays import SuiteExists
from .sessions.turn_views import Approval, Attempt, Failure, Turn
from .sessions.views import (
    Branch,
    Branches,
    ErasureInfo,
    Event,
    Family,
    Message,
    Omitted,
    Parent,
    Session,
    Sibling,
    Window,
)
from .settings import Settings, env_name, from_mapping, unknown_names, version
from .streams.follow import SHUTTING_DOWN
from .streams.frames import Frame
from .tools.base import Threads, Tool, ToolContext, ToolOutput
from .tools.functions import FunctionTool, tool
from .turns.observer import EndedAttempt, EndedTurn, Observer
from .turns.outcomes import words_of_refusal
from .turns.start import Started

# A name a line would be half of this file.
# fmt: off
__all__ = [
    "EVENT_TYPES", "LOCAL", "SHUTTING_DOWN", "Accepted", "Alias", "AlreadyImported", "Approval", "AskedMessage",
    "Attempt", "AuditError", "Base64Source", "Behind", "Block", "BlockStarted", "BlockStopped", "Branch", "Branches",
    "Broken", "BudgetTooSmall", "CacheMarks", "Caller", "CheckpointNotFound", "Chunk", "CircuitOpen", "ClientAnswer",
    "ClientFacts", "ClientRequest", "Clock", "Conflict", "Consistency", "Content", "ContentNotSupported",
    "ContextTooLong", "ConversationFile", "ConversationRun", "Cost", "Delta", "Effort", "EmptyMessage", "Ended",
    "EndedAttempt", "EndedTurn", "Engine", "EngineError", "Erased", "Erasure", "ErasureInfo", "Event", "EventNotFound",
    "Evidence", "Failure", "Family", "Finding", "FirstDifference", "FormatType", "Frame", "FunctionTool", "Holder",
    "Id", "IdempotencyMismatch", "ImageBlock", "Imported", "Inclusion", "Invalid", "InvalidConversation", "KeyLimit",
    "Layers", "LeftOut", "LegalHold", "LiveTools", "Load", "Measure", "Message", "MessageCount", "MessageIn", "Model",
    "ModelInfo", "NewSession", "NoDecisionAwaited", "NoExactCount", "NotFound", "NotYet", "NothingToAnswer",
    "NothingToReplay", "NumberedResult", "Observer", "Omitted", "OtherBlock", "Overloaded", "Page", "Parameters",
    "Parent", "PreviousNotCompleted", "PreviousNotFound", "Price", "Problem", "Prompt", "PromptMessage", "ProofInvalid",
    "Protocol", "Provider", "ProviderError", "ProviderMalformed", "ProviderRejected", "ProviderTimedOut",
    "ProviderTooLarge", "ProviderTruncated", "ProviderUnavailable", "Providers", "RateLimited", "Rates", "Reasoning",
    "Rebuilt", "RecordDamaged", "Refused", "Replay", "ReplayCounts", "ReplayEnded", "ReplayNotFound", "ReplayOptions",
    "ReplayQuery", "ReplayWhere", "RequestKey", "ResponseFormat", "Result", "Retained", "Retry", "Salvage",
    "SecretMismatch", "SentPrompt", "SentWindow", "Serving", "Session", "SessionArchived", "SessionChanges",
    "SessionExpired", "SessionFilter", "SessionFull", "SessionNotFound", "Settings", "ShuttingDown", "Sibling", "Span",
    "Standing", "Started", "StoreCorrupt", "StoreError", "StoreForeign", "StoreFull", "StoreLocked", "StoreNewer",
    "StoreOlder", "StoreUnavailable", "Suite", "SuiteExists", "SuiteItem", "SuiteNotFound", "SyncEngine",
    "SyncEvidence", "SyncSalvage", "SyncTextStream", "TextBlock", "TextStream", "ThinkingBlock", "Threads", "Tier",
    "TokenCount", "TooLarge", "Tool", "ToolCallNotFound", "ToolContext", "ToolError", "ToolInfo", "ToolOutput",
    "ToolResultBlock", "ToolResultsMissing", "ToolSchema", "ToolUseBlock", "Turn", "TurnAlreadyOpen", "TurnCheck",
    "TurnLimitReached", "TurnNotFound", "TurnNotOpen", "TurnOptions", "UnknownModel", "UnknownRenderer", "Unmet",
    "Unwitnessed", "UrlSource", "Usage", "UsageReported", "VendorBlock", "Verified", "VersionConflict", "Window",
    "WindowMessage", "accept_break", "check_content", "check_tenant", "check_unlocked", "database_path", "env_name",
    "errors", "examine_database", "existing_database", "from_mapping", "import_bundle", "is_correlation",
    "migrate_database", "new_id", "open", "open_beside", "open_sync", "page_policy", "read_conversation", "read_pace",
    "rebuild_projections", "report_policy", "rfc3339", "tell_address", "text_content", "text_of", "tool",
    "transcript_policy", "unknown_names", "verify_database", "version", "words_diff", "words_of_refusal",
]
# fmt: on
