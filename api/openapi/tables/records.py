"""Events, proofs, erasures, replays and suites."""

from __future__ import annotations

from .base import (
    ANSWER,
    AT,
    EVENT,
    HASH,
    KEY,
    NOTE,
    OTHER_HASH,
    OTHER_TURN,
    PARENT,
    REPLAY,
    ROOT,
    SESSION,
    SUITE,
    TURN,
    Group,
    Told,
)

REPLAYED = {
    "id": ("The replay's id, a UUIDv7 in canonical text.", REPLAY),
    "status": ("`running`, `completed`, `failed` or `cancelled`.", "completed"),
    "model": ("The model that answers; null: each turn's own.", None),
    "suite": ("The name of the suite whose turns these are; null: they are none's.", "clauses"),
    "turns": ("How many turns are to be done.", 2),
    "error": ("The code of what kept it from doing all of them; null: nothing did.", None),
}

GROUP: Group = {
    "Event": Told(
        "An immutable record of something that happened: an envelope, facts without anybody's words, and a body with "
        "them. Only a body can be erased.",
        {
            "id": ("The event's id, a UUIDv7 in canonical text.", EVENT),
            "session_id": ("The session in which it stands: of shared history another than the one asked.", SESSION),
            "type": (
                "What happened, `noun.past-participle`: `message.appended`, `turn.completed` …",
                "message.appended",
            ),
            "schema": ("The version of the facts' form.", 2),
            "recorded_at": ("When it was recorded (RFC 3339, UTC, microseconds).", AT),
            "causation_id": ("The event or turn that led to it; null: none.", None),
            "correlation_id": (
                "The id of the request that led to it; null: none.",
                "01a22e55-61aa-7000-8000-4b2f6d9c1e37",
            ),
            "facts": (
                "A small object per type, without a word of anybody's. It is part of the leaf, and never erased.",
                {"complete": True, "counter": "o200k_base/1", "role": "user", "tokens": 7, "turn": None},
            ),
            "body": (
                "The words; null where there are none, or they are erased.",
                {"content": [{"type": "text", "text": "What does clause 4 limit?"}]},
            ),
            "commitment": (
                "SHA-256 over a salt and the body's bytes, in hex: it stands in the leaf for the words.",
                OTHER_HASH,
            ),
            "erased": "Who erased its body, when and why; null: nobody.",
        },
        without=("damaged",),
    ),
    "EventList": Told("A page of events.", {"items": "The events of this page."}),
    "Inclusion": Told(
        "A proof that an event stands in the log that a checkpoint speaks of (RFC 6962, section 2.1.1).",
        {
            "index": ("The leaf's index in the tree: its position less one.", 41),
            "size": ("How many events the checkpoint covers.", 46),
            "leaf": (
                "The canonical JSON (RFC 8785) that was hashed: envelope, facts and commitment.",
                '{"actor":"key:alice",…}',
            ),
            "hashes": ("The hashes of the path, in hex, from the leaf up.", [HASH, OTHER_HASH]),
            "root": ("The root that they lead to, in hex: that of the checkpoint.", ROOT),
        },
    ),
    "Consistency": Told(
        "A proof that the log only grew between two sizes (RFC 6962, section 2.1.2).",
        {
            "from": ("The size before.", 30),
            "to": ("The size after.", 46),
            "from_root": ("The root before, in hex.", HASH),
            "to_root": ("The root after, in hex.", ROOT),
            "hashes": ("The hashes of the proof, in hex.", [HASH, OTHER_HASH]),
            "checkpoint": (
                "The signed checkpoint of the size after, as text; null: there is none of just that size.",
                NOTE,
            ),
        },
    ),
    "CosignedIn": Told(
        "A witness's signature of one of the log's checkpoints.",
        {
            "note": ("The checkpoint with the witness's signature below it: a C2SP signed note.", NOTE),
            "key": ("The witness's verifier key, `name+hash+key`, of type 4 (cosignatures).", KEY),
        },
    ),
    "EraseIn": Told(
        "Which words are erased, and why.",
        {
            "reason": (
                "Why, 1 to 1000 characters. It is recorded, and shown beside what it erased.",
                "Art. 17 request of 2026-11-30",
            ),
            "versions": ("The versions whose words go, 1 to 10,000; null: all that is the session's own.", [2, 6]),
        },
    ),
    "Erasure": Told(
        "What an erasure reached.",
        {
            "session_id": ("The session that it was ordered for.", SESSION),
            "version": ("The session's version afterwards.", 10),
            "versions": (
                "The versions whose words are gone, those among them that nobody named but told of the same.",
                [2, 6],
            ),
            "purged": ("True: no file of the server holds the words any more; false: soon.", True),
            "out_of_reach": ("What no erasure here reaches.", ["backups", "earlier exports"]),
            "erased": ("The same as `versions`.", [2, 6]),
            "sessions": "Other sessions that hold the same words.",
            "dry_run": ("True: nothing was done, and this is what would be.", False),
        },
    ),
    "Holder": Told(
        "Another session that holds words of those erased.",
        {
            "session_id": ("That session.", PARENT),
            "relation": "A `branch` shows the words, and loses them too. A `copy` keeps them, and must be erased by "
            "itself.",
            "versions": ("At which of its versions.", [2, 6]),
        },
    ),
    "ReplayIn": Told(
        "What is done again, and how. One of `sessions`, `turns`, `suite` and `where` says what.",
        {
            "sessions": ("Ids of sessions, all of whose turns are done again.", [SESSION]),
            "turns": ("Ids of turns.", [TURN]),
            "suite": ("The name of a suite; null: none.", "clauses"),
            "where": "Conditions by which sessions are found; null: none.",
            "mode": (
                (
                    "`recorded`: the record answers, which tests the server. `forced`: a model answers each on the "
                    "recorded history. `free`: on its own. null: `forced` where a model is named, else `recorded`."
                ),
                "forced",
            ),
            "model": ("The model that answers; null: each turn's own.", "echo/echo"),
            "tools": ("Tools are answered from the record, refused, or run live.", "recorded"),
            "jobs": ("How many turns are asked at once; null: `replay_jobs` (4).", 4),
            "max_turns": ("The most turns that it may have; null: `replay_turns` (1000).", 1000),
            "max_cost_micros": (
                "It stops when it has cost so many millionths of the currency; null: no bound.",
                2_000_000,
            ),
        },
        {"sessions": [SESSION], "model": "echo/echo"},
    ),
    "ReplayWhereIn": Told(
        "Conditions by which sessions are found; all must be true.",
        {
            "model": ("Sessions of this model; null: any.", "echo/echo"),
            "status": "Sessions of this status; null: any.",
            "since": (
                "Turns that started at or after this (RFC 3339 with a time zone); null: any.",
                "2026-11-01T00:00:00Z",
            ),
            "until": ("Turns that started before this; null: any.", "2026-12-01T00:00:00Z"),
            "title_contains": ("Sessions whose title holds this; null: any.", "clause"),
        },
    ),
    "LiveToolsIn": Told(
        "Tools that really run; all other calls are answered from the record.",
        {"live": ("Their names.", ["calculator"])},
    ),
    "AcceptIn": Told(
        "Results that become the reference.",
        {"results": ("Ids of recorded turns, 1 to 10,000, whose new answers are the reference from now on.", [TURN])},
    ),
    "Replay": Told("Recorded turns, done again and compared.", REPLAYED),
    "ReplayPage": Told(
        "A replay as it is now, and a page of its results in the order in which they came.",
        REPLAYED | {"results": "The results of this page."},
    ),
    "ReplayList": Told("A page of replays.", {"items": "The replays of this page."}),
    "ReplayCounts": Told(
        "Results by verdict.",
        {
            "same": ("Answers that are the recorded ones.", 1),
            "different": ("Answers that differ.", 1),
            "skipped": ("Turns that could not be done again, with a reason.", 0),
            "failed": ("Turns that failed.", 0),
            "noise": ("How many of the different ones are noise: the recorded model differs from itself so.", 0),
        },
    ),
    "Result": Told(
        "A recorded turn, done again.",
        {
            "new_session_id": ("The session in which it was done again; null: it was not.", PARENT),
            "new_turn_id": ("The turn that did it again; null: none did.", OTHER_TURN),
            "verdict": "How the new answer compares.",
            "first_difference": "Where the answers first differ; null: nowhere.",
            "layers": "Layer by layer, whether they are the same.",
            "reason": ("Why it was skipped or failed, or what is to be known of it; null: nothing.", None),
            "repeated": ("True: it was asked once more after a restart.", False),
            "noise": ("True: the recorded model differs from itself in the same way.", False),
            "diverges": ("True, in mode `free`: what follows answers something else.", False),
        },
    ),
    "FirstDifference": Told(
        "Where two answers first differ.",
        {
            "layer": ("The layer that differs first.", "text"),
            "path": ("The place.", "messages[0].content[0].text[17]"),
            "recorded": ("What stands there in the recorded answer; null: nothing, or it is erased.", ANSWER),
            "now": ("What stands there in the new answer; null: nothing, or it is erased.", "Clause 4 limits it."),
        },
    ),
    "Layers": Told(
        "Layer by layer: true where both are the same, false where they differ, null where it was not compared.",
        {
            "request": ("The bytes that the model was sent.", True),
            "frames": ("The frames that were shown.", None),
            "stop_reason": ("Why the model stopped.", True),
            "tool_calls": ("Names, arguments and order of tool calls.", True),
            "structure": ("Kinds of blocks, and their order.", True),
            "text": ("The text that a person reads.", False),
            "tokens": "Tokens of the answers; null: not compared.",
            "cost": "Costs in millionths of the currency; null: not compared.",
            "time": "Milliseconds; null: not compared.",
        },
    ),
    "Measure": Told(
        "A figure of both answers.",
        {"recorded": ("Of the recorded one; null: not known.", 16), "now": ("Of the new one; null: not known.", 14)},
    ),
    "ReplayFrame": Told("A frame of a replay's stream: one server-sent event."),
    "EventFrame": Told("A frame of a stream of events: one server-sent event."),
    "Suite": Told(
        "A named list of references to recorded turns.",
        {
            "id": ("The suite's id, a UUIDv7 in canonical text.", SUITE),
            "name": ("Its name, at most `max_name_chars` (200) characters.", "clauses"),
            "items": "Its turns, in order.",
            "version": ("Increases with each change; the version that `If-Match` compares.", 1),
        },
    ),
    "SuiteItem": Told("A turn of a suite, and where it stands."),
    "SuiteIn": Told(
        "A new suite.",
        {"name": ("Its name, at most `max_name_chars` (200) characters.", "clauses"), "items": "Its turns, in order."},
    ),
    "SuiteItemsIn": Told("The turns that a suite holds from now on.", {"items": "Its turns, in order."}),
    "SuiteItemIn": Told(
        "A recorded turn.",
        {"session_id": ("The session that it stands in, or a fork that shares it; null: found by the turn.", SESSION)},
    ),
    "SuiteList": Told("A page of suites.", {"items": "The suites of this page."}),
}
