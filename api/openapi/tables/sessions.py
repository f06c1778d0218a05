"""Sessions, their messages, windows and branches."""

from __future__ import annotations

from .base import MESSAGE, METADATA, PARENT, QUESTION, SESSION, TEXT, Group, Told

CONTENT = ("A text, or a list of blocks. A text is short for one text block.", QUESTION)

GROUP: Group = {
    "Session": Told(
        "A conversation as it is now, or was at a version. It is written by appending events, and never changed.",
        {
            "id": ("The session's id, a UUIDv7 in canonical text: in order of creation.", SESSION),
            "status": "`archived`: it takes nothing until it is made `active` again.",
            "version": ("How many events it has; the version that `If-Match` compares.", 9),
            "usage": "Tokens of all attempts of all its turns.",
            "parent": "The session that it was forked from; null: it is no fork.",
            "open_turn_id": ("The turn that runs, or waits for a decision; null: none.", None),
            "updated_at": (
                "When something was last recorded in it (RFC 3339, UTC, microseconds).",
                "2026-11-30T21:21:18.094127Z",
            ),
            "costs": "What its turns cost, by currency; empty: no price is known.",
            "turn_count": ("How many turns it has had, shared history included.", 2),
            "failed_count": ("How many of its turns failed.", 0),
            "family": "The sessions that share a history with it; null while it is alone.",
        },
    ),
    "SessionIn": Told(
        "A new session. Every field may be left out.",
        {
            "model": (
                "The model of its turns, `provider/model` or a known bare name; null: the server's.",
                "echo/echo",
            ),
        },
        {"title": "Clause 4", "system": "You are a careful assistant.", "metadata": METADATA},
    ),
    "SessionPatch": Told(
        "Changes of a session: only the fields that are given; null sets null. `ttl_s` goes without `expires_at`.",
        {"status": "`archived` closes the session, `active` takes it up again."},
        {"title": "Clause 4, second reading", "metadata": None},
    ),
    "ForkIn": Told(
        "A fork. Fields that are not given are inherited, but for `expires_at` and the bounds.",
        {"version": ("Up to which version the history is shared; null: all of it.", 6)},
        {"version": 6, "title": "What if"},
    ),
    "Parent": Told(
        "Where a fork's history comes from.",
        {
            "session_id": ("The session whose history is shared.", PARENT),
            "version": ("The last version that is shared.", 6),
        },
    ),
    "Family": Told(
        "The sessions that share a history: the one that it began with, and its forks.",
        {
            "root": ("The session with which it began.", PARENT),
            "size": ("How many conversations there are, those that replays made not counted.", 2),
        },
    ),
    "Branch": Told(
        "A member of a family.",
        {
            "parent": "Where its history comes from; null of the root.",
            "version": ("The version that it has.", 9),
            "preview": ("The beginning of the first user message of its own; null if erased.", "What if it were void?"),
            "kind": "`replay`: a replay made it.",
        },
    ),
    "Branches": Told(
        "A family as a tree.",
        {
            "root": ("The session that has no parent.", PARENT),
            "nodes": "Its members, the oldest first.",
        },
    ),
    "SessionList": Told("A page of sessions.", {"items": "The sessions of this page."}),
    "Message": Told(
        "A message as it was recorded. It keeps its id, position and session in every fork that shares it.",
        {
            "id": ("The message's id, which is that of its event.", MESSAGE),
            "session_id": ("The session in which it stands: of shared history another than the one asked.", SESSION),
            "content": ("Its blocks in order; empty if they are erased.", TEXT),
            "complete": ("False: the turn ended before the answer did, and this is what had come.", True),
            "erased": "Who erased its words, when and why; null: nobody.",
            "turn_id": ("The turn that made it; null: it was appended.", None),
            "model": ("The model that gave the answer; null of what no turn has made.", None),
            "stop_reason": (
                (
                    "Why the model stopped: `end_turn`, `max_tokens`, `stop_sequence`, `tool_use`, `refusal` "
                    "or another; "
                    "null of what no turn has made."
                ),
                None,
            ),
            "pinned": ("True: it stands in every window.", False),
            "developer": ("True: a system message that its client calls a developer's; there if it is.", True),
            "siblings": "Those that stand in its place in other conversations of the family; there if they were asked "
            "for.",
        },
        without=("damaged", "developer", "siblings"),
    ),
    "Sibling": Told(
        "A message that stands in the place of another, in another conversation of the family.",
        {
            "id": ("Its id.", MESSAGE),
            "session_id": ("The session in which it stands.", PARENT),
        },
    ),
    "MessageList": Told("A page of messages.", {"items": "The messages of this page."}),
    "ErasureInfo": Told(
        "An erasure of words: by whom, when and why.",
        {
            "by_position": ("The position of the event that tells of it.", 57),
            "at": ("When (RFC 3339, UTC, microseconds).", "2026-11-30T21:40:02.113004Z"),
            "reason": ("Why; null where that cannot be read any more.", "Art. 17 request of 2026-11-30"),
        },
    ),
    "OneMessage": Told(
        "A message that a caller gives.",
        {"content": CONTENT},
        {"role": "user", "content": QUESTION},
    ),
    "MessagesIn": Told(
        "One message (`role`, `content`), or several at once (`messages`): all are appended, or none.",
        {
            "content": CONTENT,
            "messages": "The messages, in order; at most `max_messages` (100). Goes without `role` and `content`.",
        },
        {"content": QUESTION},
    ),
    "Window": Told(
        "What a model would be sent. `used_tokens` is the sum of the messages' tokens and `system_tokens`, times "
        "`factor_permille` / 1000, rounded up, and `overhead` for each message, the system prompt being one.",
        {
            "budget_tokens": ("The budget that the window keeps to, reply included.", 8192),
            "messages": "The messages in it, in order.",
            "omitted": "What it leaves out.",
            "system_tokens": ("Base tokens of the system prompt.", 6),
            "exact": ("True: `used_tokens` is the vendor's own count, and not ours.", False),
        },
    ),
    "Omitted": Told(
        "The part of a session that a window leaves out.",
        {
            "count": ("How many messages.", 2),
            "tokens": ("Their tokens, by the model's count.", 31),
        },
    ),
    "TextBlock": Told(
        "A text.",
        {
            "type": ("The kind of block.", "text"),
            "text": ("The text.", QUESTION),
            "vendor": ("What the text alone does not say, in the vendor's form: citations, annotations.", {}),
        },
        TEXT[0],
    ),
    "ImageBlock": Told(
        "An image.",
        {"type": ("The kind of block.", "image"), "source": "Where the image is: in the message, or at an address."},
    ),
    "Base64Source": Told(
        "An image that stands in the message.",
        {
            "type": ("The kind of source.", "base64"),
            "media_type": ("`image/png`, `image/jpeg`, `image/gif` or `image/webp`.", "image/png"),
            "data": (
                "The image in base64.",
                "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYPhfDwAChAGA60e6kgAAAABJRU5ErkJggg==",
            ),
        },
    ),
    "UrlSource": Told(
        "An image at an address, which the model's vendor fetches. The image is not part of the record.",
        {
            "type": ("The kind of source.", "url"),
            "url": ("The address.", "https://example.com/plan.png"),
        },
    ),
    "ToolUseBlock": Told(
        "A call of a tool by the model.",
        {
            "type": ("The kind of block.", "tool_use"),
            "id": ("The call's id, which its result names.", "call_1"),
            "name": ("The tool's name.", "look"),
            "input_text": ("What the model wrote as the input, byte for byte.", '{"city":"Rome"}'),
            "vendor": ("The block in the vendor's form.", {}),
        },
        {"type": "tool_use", "id": "call_1", "name": "look", "input": {"city": "Rome"}},
    ),
    "ToolResultBlock": Told(
        "The result of a call, from the tool.",
        {
            "type": ("The kind of block.", "tool_result"),
            "tool_use_id": ("The id of the call that it answers.", "call_1"),
            "content": ("What the tool said: a text, or text and image blocks.", "Dry."),
            "is_error": ("True: the call failed, and `content` says why.", False),
        },
    ),
    "ThinkingBlock": Told(
        "What a model thought before it answered, as far as its vendor tells.",
        {
            "type": ("The kind of block.", "thinking"),
            "text": ("The text.", "The clause names the price."),
            "vendor": ("The block in the vendor's form, with its signature.", {}),
        },
        {"type": "thinking", "text": "The clause names the price."},
    ),
    "OtherBlock": Told(
        "A block of another type that a model gave: kept, and given back as it came. Callers may not send one.",
        {"type": ("Its type, which is none of the others.", "server_tool_use")},
    ),
    "Block": Told("A piece of a message. `type` says of which kind it is.", {}, TEXT[0]),
}
