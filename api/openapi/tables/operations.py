"""Operations: the part of the API that each belongs to, what it may refuse, and bodies that are really sent.

``codes`` are those that it answers beside the ones that every route may (``errors.CODES``, ``everywhere``). A test asks
each refusal that it meets whether it stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .base import KEY, METADATA, NOTE, QUESTION, SCHEMA, SESSION, TURN

TAGS: Mapping[str, str] = {
    "Sessions": "Conversations: beginning, finding, changing, forking and reading them.",
    "Messages": "What was said, and what a model would be shown of it.",
    "Turns": "Running a model: starting, following, cancelling, deciding, and what it was sent.",
    "Events": "The record itself, of a session or of the whole log, and following both.",
    "Evidence": "Proofs, checkpoints and keys, by which others check the record.",
    "Erasure and export": "Erasing words, and taking sessions out.",
    "Replays": "Doing recorded turns again, and comparing the answers; suites of turns.",
    "Models and tools": "What can be asked and called, and counting tokens.",
    "Keys": "Who a key belongs to, and tickets for what cannot send one.",
    "Guide": "The three routes of the guide, in its toolkit's envelopes.",
    "Drop-in": (
        "Routes in the vendors' own protocols, so that their clients work unmodified. All is recorded as "
        "everything else "
        "is; `x-manent-session` and `x-manent-turn` say where."
    ),
    "Operation": "Health and figures, for those who run the server.",
}

Codes = tuple[str, ...]

BODY: Codes = ("malformed_json", "missing_body", "nested_too_deeply", "unknown_field")
WORDS: Codes = ("nul_character", "too_large")
LIST: Codes = ("invalid_cursor",)
OF_SESSION: Codes = ("session_not_found",)
OF_TURN: Codes = ("turn_not_found",)
OF_REPLAY: Codes = ("replay_not_found",)
OF_SUITE: Codes = ("suite_not_found",)
ONCE: Codes = ("idempotency_mismatch",)
IF_MATCH: Codes = ("version_conflict",)
THEN: Codes = ("session_not_found", "not_yet")
SAID: Codes = ("empty_message", "unknown_role", "unknown_block", "tool_call_not_found", "tool_results_missing")
OPEN: Codes = ("session_archived", "session_expired", "session_full", "turn_already_open")
DAMAGE: Codes = ("record_damaged",)
ASKING: Codes = (
    "unknown_model",
    "budget_too_small",
    "content_not_supported",
    "parameter_not_supported",
    "rate_limited",
)
ASKING += ("provider_circuit_open", "unknown_tool")
PROVIDERS: Codes = ("provider_unavailable", "provider_rejected", "provider_malformed", "provider_timed_out")
PROVIDERS += ("provider_truncated", "provider_too_large", "provider_error", "turn_limit_reached", "tool_error")
FAILED: Codes = ("turn_cancelled", "turn_interrupted", *PROVIDERS)
COVERED: Codes = ("checkpoint_not_found", "behind", "audit_error", "broken")
OWN_FIELDS: Codes = ("unknown_model", "unknown_tool")


class Operation(NamedTuple):
    """An operation. ``description``: where its docstring is one sentence; ``bodies``: examples of its request's body by
    what they show.
    """

    tag: str
    codes: tuple[str, ...] = ()
    description: str = ""
    bodies: Mapping[str, Any] = {}


OPERATIONS: Mapping[str, Operation] = {
    "create_session": Operation(
        "Sessions",
        (*BODY, *WORDS, *OWN_FIELDS, *ONCE),
        "`Location` names it, and `ETag` is its version. An empty body will do: the server has a default model.",
        {
            "A session with a system prompt": {
                "title": "Clause 4",
                "system": "You are a careful assistant.",
                "metadata": METADATA,
            },
            "A bounded one": {"model": "echo/echo", "ttl_s": 86400, "max_messages": 100, "allowed_tools": []},
            "All defaults": {},
        },
    ),
    "list_sessions": Operation("Sessions", LIST),
    "get_session": Operation("Sessions", (*THEN, *DAMAGE), "`ETag` is its version, for `If-Match`."),
    "update_session": Operation(
        "Sessions",
        (*BODY, *WORDS, *OWN_FIELDS, *OF_SESSION, *IF_MATCH, *ONCE, "session_archived", "turn_already_open"),
        "Only the fields that are given are changed; null sets null. A change is an event, and the old value stays on "
        "record.",
        {
            "Another title": {"title": "Clause 4, second reading"},
            "Archive it": {"status": "archived"},
            "Take a field back": {"fallback_model": None},
        },
    ),
    "update_metadata": Operation(
        "Sessions",
        (*BODY, *WORDS, *OF_SESSION, *IF_MATCH, *ONCE, "session_archived"),
        "A patch that changes nothing is no event.",
        {"Set one key, remove another": {"court": "LG Berlin", "case": None}},
    ),
    "fork_session": Operation(
        "Sessions",
        (
            *BODY,
            *WORDS,
            *OWN_FIELDS,
            *OF_SESSION,
            *IF_MATCH,
            *ONCE,
            "session_archived",
            "session_expired",
            "session_full",
        ),
        "Fields that are not given are inherited, but for `expires_at` and the bounds. `parent` names where it comes "
        "from.",
        {"From a version on": {"version": 1, "title": "What if"}, "All of it": {}},
    ),
    "list_branches": Operation("Sessions", THEN),
    "read_transcript": Operation("Sessions", THEN),
    "append_message": Operation(
        "Messages",
        (*BODY, *WORDS, *SAID, *OPEN, *OF_SESSION, *IF_MATCH, *ONCE, "behind"),
        "With `messages` all of them are appended, or none, and the answer is a page of them.",
        {
            "A question": {"content": QUESTION},
            "Several at once": {
                "messages": [
                    {"role": "user", "content": QUESTION},
                    {"role": "assistant", "content": "It limits liability."},
                ]
            },
            "Blocks": {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
        },
    ),
    "list_messages": Operation("Messages", (*LIST, *THEN, *DAMAGE)),
    "pin_message": Operation("Messages", (*OF_SESSION, *OPEN, *IF_MATCH, "event_not_found", "erased", "empty_message")),
    "unpin_message": Operation("Messages", (*OF_SESSION, *OPEN, *IF_MATCH, "event_not_found")),
    "get_window": Operation(
        "Messages", (*THEN, *DAMAGE, *PROVIDERS, "unknown_model", "budget_too_small", "no_exact_count")
    ),
    "start_turn": Operation(
        "Turns",
        (*BODY, *WORDS, *SAID, *OPEN, *ASKING, *OF_SESSION, *IF_MATCH, *ONCE, *DAMAGE, "nothing_to_answer", "behind"),
        "",
        {
            "A question": {"content": QUESTION},
            "With frames, on another model": {"content": QUESTION, "model": "echo/paced", "stream": True},
            "A tool that the caller runs": {
                "content": "Is it dry outside?",
                "client_tools": [{"name": "look", "description": "Looks out of the window.", "parameters": SCHEMA}],
            },
            "Edit and ask again": {"content": "And clause 5?", "from_version": 1},
        },
    ),
    "list_turns": Operation("Turns", (*LIST, *OF_SESSION, *DAMAGE)),
    "list_all_turns": Operation("Turns", (*LIST, *DAMAGE)),
    "get_turn": Operation("Turns", (*OF_TURN, *DAMAGE)),
    "stream_turn": Operation("Turns", (*OF_TURN, *DAMAGE)),
    "get_prompt": Operation("Turns", (*OF_TURN, *DAMAGE, "erased", "unknown_renderer")),
    "cancel_turn": Operation("Turns", (*OF_TURN, *ONCE, "malformed_json", "unknown_field"), "", {"No field": {}}),
    "decide": Operation(
        "Turns",
        (*BODY, *WORDS, *OF_TURN, *ONCE, "no_decision_awaited", "turn_not_open"),
        "",
        {
            "Yes": {"tool_use_id": "call_1", "approve": True},
            "No, and why": {"tool_use_id": "call_1", "approve": False, "reason": "Not without the client's consent."},
        },
    ),
    "list_events": Operation("Events", (*LIST, *OF_SESSION, *DAMAGE)),
    "stream_events": Operation("Events", (*OF_SESSION, *DAMAGE)),
    "list_log": Operation("Events", (*LIST, *DAMAGE), "A key needs the scope `audit`."),
    "stream_log": Operation("Events", DAMAGE, "A key needs the scope `audit`."),
    "prove_event": Operation(
        "Evidence",
        (*OF_SESSION, *COVERED, "event_not_found"),
        "The text is checked by any tool that reads C2SP tlog-proof. A key needs the scope `chat` or `audit`.",
    ),
    "newest_checkpoint": Operation(
        "Evidence",
        COVERED,
        "Its first lines are the log's name, its size, and its root in base64; below an empty line stand "
        "signatures, the "
        "log's and its witnesses'. A key needs the scope `chat` or `audit`.",
    ),
    "make_checkpoint": Operation(
        "Evidence",
        (*COVERED, "malformed_json", "unknown_field"),
        "The server does so by itself every `checkpoint_every_s` (60) seconds. A key needs the scope `operate`.",
        {"No field": {}},
    ),
    "add_cosignature": Operation(
        "Evidence",
        (*BODY, "proof_invalid", "checkpoint_not_found"),
        "A key needs the scope `operate`.",
        {"A witness's signature": {"note": NOTE, "key": KEY}},
    ),
    "verifier_keys": Operation(
        "Evidence",
        (),
        "Keep the answer somewhere else, before there is a dispute: `manent verify` and `verify_bundle.py` are "
        "told the "
        "key. A key needs the scope `chat` or `audit`.",
    ),
    "prove_consistency": Operation("Evidence", (*COVERED, "missing_parameter", "proof_invalid")),
    "read_tile": Operation("Evidence", (), "It serves hashes only, 32 bytes each, as C2SP tlog-tiles states."),
    "erase_words": Operation(
        "Erasure and export",
        (*BODY, *WORDS, *OF_SESSION, *IF_MATCH, *ONCE, "event_not_found", "legal_hold", "turn_already_open"),
        "",
        {
            "One message": {"reason": "Art. 17 request of 2026-11-30", "versions": [1]},
            "All of it": {"reason": "Retention: six years"},
        },
    ),
    "export_session": Operation(
        "Erasure and export",
        (*OF_SESSION, *DAMAGE, *COVERED),
        "A bundle holds the events, their proofs, the checkpoint and a verifier (FORMAT.md). `openai` and "
        "`otel` are one "
        "line of JSON: the chat format of OpenAI, or OpenTelemetry's GenAI message parts.",
    ),
    "list_replays": Operation("Replays", LIST),
    "start_replay": Operation(
        "Replays",
        (*BODY, *WORDS, *OWN_FIELDS, *OF_SESSION, *OF_TURN, *OF_SUITE, *ONCE, "nothing_to_replay", "turn_already_open"),
        "",
        {
            "A session on another model": {"sessions": [SESSION], "model": "echo/echo"},
            "Turns, from the record": {"turns": [TURN], "mode": "recorded"},
            "What was asked this month": {"where": {"since": "2026-11-01T00:00:00Z"}, "mode": "recorded"},
        },
    ),
    "get_replay": Operation("Replays", (*LIST, *OF_REPLAY, *DAMAGE)),
    "stream_replay": Operation("Replays", (*OF_REPLAY, *DAMAGE)),
    "report_replay": Operation("Replays", (*OF_REPLAY, *DAMAGE), "It is sent under a policy that lets no script run."),
    "cancel_replay": Operation("Replays", (*OF_REPLAY, *ONCE, "malformed_json", "unknown_field"), "", {"No field": {}}),
    "accept_results": Operation(
        "Replays",
        (*BODY, *OF_REPLAY, *OF_TURN, *OF_SUITE, *ONCE, "replay_ended"),
        "The old references stay on record.",
        {"One turn": {"results": [TURN]}},
    ),
    "list_suites": Operation("Replays", LIST),
    "create_suite": Operation(
        "Replays",
        (*BODY, *WORDS, *OF_SESSION, *OF_TURN, *ONCE, "suite_exists", "turn_already_open"),
        "",
        {"One turn": {"name": "clauses", "items": [{"turn_id": TURN}]}},
    ),
    "get_suite": Operation("Replays", OF_SUITE, "`ETag` is its version."),
    "set_suite": Operation(
        "Replays",
        (*BODY, *WORDS, *OF_SESSION, *OF_TURN, *OF_SUITE, *IF_MATCH, "turn_already_open"),
        "",
        {"One turn": {"items": [{"turn_id": TURN}]}},
    ),
    "delete_suite": Operation("Replays", (*OF_SUITE, *IF_MATCH)),
    "list_models": Operation("Models and tools", LIST),
    "get_model": Operation("Models and tools", ("unknown_model",)),
    "count_tokens": Operation(
        "Models and tools",
        (*BODY, *WORDS, *PROVIDERS, "unknown_model", "empty_message", "unknown_block", "content_not_supported"),
        "",
        {"A text": {"model": "echo/echo", "content": QUESTION}},
    ),
    "list_tools": Operation("Models and tools", (*LIST, *OF_SESSION)),
    "who_am_i": Operation("Keys"),
    "issue_ticket": Operation("Keys", BODY, "", {"For a transcript": {"path": f"/api/sessions/{SESSION}/transcript"}}),
    "open_console": Operation(
        "Keys",
        (*BODY, "no_keys", "rate_limited"),
        "The console does this; `Authorization` is for everybody else. The cookie is `HttpOnly` and `SameSite=Strict`, "
        "and neither it nor the token is the key. Ten wrong keys a minute from one address are refused unread.",
        {"A key": {"key": "mk_7Zp4Qn0v"}},
    ),
    "close_console": Operation("Keys"),
    "complete": Operation(
        "Guide",
        (*BODY, *WORDS, *ASKING, *FAILED, *ONCE, "empty_message"),
        "`x-session-id` names the session.",
        {"A question": {"message": QUESTION, "model": "echo/echo"}},
    ),
    "chat": Operation(
        "Guide",
        (*BODY, *WORDS, *OPEN, *ASKING, *FAILED, *ONCE, *OF_SESSION, "empty_message"),
        "",
        {"The first message": {"message": QUESTION}},
    ),
    "stream": Operation(
        "Guide",
        (*WORDS, *OPEN, *ASKING, *ONCE, *OF_SESSION, *OF_TURN, "empty_message"),
        'A newline in a delta becomes another `data:` line of its frame; a failure is `data: {"error": …}`. '
        "Frames carry "
        "ids: with `Last-Event-ID` the same turn is read on, and after its end the answer is 204.",
    ),
    "healthz": Operation("Operation", (), "It looks at nothing else."),
    "readyz": Operation("Operation", (), "A proxy sends requests here only while it answers 200."),
    "metrics": Operation("Operation", (), "It holds no id of a session, and no word of anybody's."),
    "resume_ui_stream": Operation("Drop-in", (), "The protocol is the Vercel AI SDK's."),
    "stop_ui_message": Operation(
        "Drop-in",
        (*BODY, "invalid_json", "invalid_type"),
        "The protocol is the Vercel AI SDK's: `activeStreamId`, a turn, is stopped alone.",
    ),
    "list_vendor_models": Operation("Drop-in"),
    "get_vendor_model": Operation("Drop-in", ("unknown_model",), "A name may hold slashes."),
}
