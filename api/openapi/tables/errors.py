"""Every error code that there is: the one list. A test holds it against the code of the engine and of the API.

``status``: of the answer on native routes, 0 where the code is never that of an answer: it stands in a turn, an attempt
or a command's output. ``members``: what stands beside the code. ``everywhere``: any route may answer it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Code(NamedTuple):
    """A code: see the module."""

    status: int
    meaning: str
    members: tuple[str, ...] = ()
    everywhere: bool = False


CODES: Mapping[str, Code] = {
    # --- the request is not of its form ---
    "bad_request": Code(400, "This is not an HTTP request that can be answered.", (), everywhere=True),
    "malformed_json": Code(400, "The body is not JSON in UTF-8.", ("field",)),
    "invalid_json": Code(400, "The body of a drop-in route is not JSON.", ("field",)),
    "body_incomplete": Code(400, "The connection closed before the body was complete.", (), everywhere=True),
    "nested_too_deeply": Code(400, "The body is nested deeper than it may be."),
    "missing_body": Code(400, "The route needs a body of JSON, and there is none.", ("field",)),
    "missing_field": Code(400, "A field is required, and is not there.", ("field",), everywhere=True),
    "missing_parameter": Code(400, "A parameter of the address is required, and is not there.", ("field",)),
    "unknown_field": Code(400, "There is no such field in this body. Look at its spelling.", ("field",)),
    "unknown_parameter": Code(
        400, "There is no such parameter of the address, or of the vendor's body.", ("field",), everywhere=True
    ),
    "duplicate_field": Code(400, "A field, header or parameter is given twice.", ("field",), everywhere=True),
    "invalid_value": Code(
        400,
        "A value is not of the form it must have, or not one of those there are.",
        ("field", "available"),
        everywhere=True,
    ),
    "invalid_type": Code(400, "A value in a drop-in route's body is of another type than it must be.", ("field",)),
    "invalid_id": Code(400, "This is not an id in canonical text.", ("field",), everywhere=True),
    "invalid_cursor": Code(400, "This is not a cursor that a page has given.", ("field",)),
    "nul_character": Code(400, "A text holds the character NUL, which no record can.", ("field",)),
    "unknown_role": Code(400, "A message has a role that there is not.", ("field",)),
    "unknown_block": Code(400, "A block has a type that callers cannot send.", ("field", "available")),
    "parameter_not_supported": Code(
        400, "A parameter is known, and cannot be honoured by this model or this server.", ("field",)
    ),
    "array_above_max_length": Code(
        400, "A list of a drop-in route's body is longer than it may be.", ("field", "limit")
    ),
    "mutually_exclusive_parameters": Code(400, "Two fields of a drop-in route's body exclude each other.", ("field",)),
    "conversation_locked": Code(400, "A response is running in this conversation. Try again later.", ("field",)),
    "response_not_in_background": Code(400, "Only a response that runs in the background is cancelled.", ("field",)),
    "item_not_alone": Code(
        400, "The item is one message with others, and a message is the least that is erased.", ("field",)
    ),
    "previous_response_not_completed": Code(
        400, "The answer to go on from is not whole: its turn runs, has failed or was cancelled.", ("field",)
    ),
    "unknown_part": Code(400, "A part of a UI message has a type that is not taken here.", ("field", "available")),
    "approval_not_found": Code(400, "An approval was not asked for here.", ("field",)),
    "approval_missing": Code(400, "A turn waits for more decisions than were sent.", ("field",)),
    "prefill_not_supported": Code(400, "The model cannot go on with an answer that the request begins.", ("field",)),
    "unsupported_media_type": Code(415, "The body must be `application/json`.", ("field",), everywhere=True),
    "not_acceptable": Code(406, "Nothing that the request accepts can be answered.", (), everywhere=True),
    "method_not_allowed": Code(405, "The path is there, and not for this method.", (), everywhere=True),
    "headers_too_large": Code(
        431, "The request line and the headers are too large.", ("limit", "maximum"), everywhere=True
    ),
    "request_timeout": Code(408, "The request did not come in time.", (), everywhere=True),
    "body_too_large": Code(413, "The body is larger than it may be.", ("limit", "maximum"), everywhere=True),
    "too_large": Code(413, "Something is over a limit: `limit` names the setting.", ("limit", "maximum", "field")),
    # --- who asks ---
    "unauthorized": Code(401, "No key, or one that is not valid, or an expired ticket.", (), everywhere=True),
    "scope_missing": Code(403, "The key has none of the scopes that the route needs.", ("scope",), everywhere=True),
    "forbidden": Code(403, "This may not be done.", (), everywhere=True),
    "foreign_host": Code(
        403, "Without keys, only requests to this machine's own name are served.", (), everywhere=True
    ),
    "foreign_origin": Code(403, "Without keys, pages from elsewhere are not served.", (), everywhere=True),
    "cross_site": Code(403, "Without keys, pages from elsewhere are not served.", (), everywhere=True),
    # --- what is not there ---
    "not_found": Code(404, "There is no such path, tile or log.", (), everywhere=True),
    "session_not_found": Code(
        404,
        "There is no such session, or not at that version, in the key's tenant.",
        ("session_id", "field", "last_version"),
    ),
    "response_not_found": Code(404, "There is no such response: see /v1/responses.", ("field",)),
    "completion_not_found": Code(404, "There is no such stored completion: see /v1/chat/completions.", ("field",)),
    "resource_not_found": Code(
        404, "There is no such agent, environment, vault or file: they are kept elsewhere.", ("field",)
    ),
    "conversation_not_found": Code(404, "There is no such conversation: see /v1/conversations.", ("field",)),
    "item_not_found": Code(404, "The conversation has no such item.", ("field",)),
    "previous_response_not_found": Code(404, "There is no such answer to go on from: see /v1/responses.", ("field",)),
    "turn_not_found": Code(404, "There is no such turn or attempt in the key's tenant.", ("turn_id",)),
    "event_not_found": Code(404, "The session has no event, or no message, of that version.", ("version",)),
    "checkpoint_not_found": Code(404, "There is no such checkpoint, and none can be made.", ()),
    "replay_not_found": Code(404, "There is no such replay in the key's tenant.", ("replay_id",)),
    "suite_not_found": Code(404, "There is no such suite in the key's tenant.", ("available",)),
    "not_yet": Code(404, "At that time the session had not begun.", ("created_at",)),
    "unknown_model": Code(
        400, "No provider serves this model. Where a path names it, the status is 404.", ("field", "available")
    ),
    "unknown_tool": Code(400, "No tool is registered under this name.", ("field", "available")),
    "unknown_renderer": Code(422, "The request was made by a renderer that is not here.", ("renderer", "available")),
    # --- what will not be done ---
    "refused": Code(400, "The request is understood, and will not be done."),
    "empty_message": Code(400, "A message must hold something.", ("field",)),
    "tool_call_not_found": Code(400, "A tool result answers no open call.", ("tool_use_id", "field")),
    "no_exact_count": Code(400, "The vendor of this model does not count tokens.", ()),
    "nothing_to_replay": Code(400, "Nothing that is asked for can be done again.", ()),
    "proof_invalid": Code(400, "A note, key or signature is not what it claims to be.", ()),
    "no_keys": Code(409, "The server has no API keys, and needs none: there is nothing to trade.", ()),
    "session_archived": Code(409, "The session is archived, and takes nothing.", ("session_id",)),
    "session_expired": Code(
        409, "The session has expired, and takes nothing until `expires_at` is set anew.", ("expires_at",)
    ),
    "session_full": Code(409, "The session, or its family, holds as much as it may.", ("limit", "maximum")),
    "tool_results_missing": Code(
        409, "The model asked for tools, and their results must come next.", ("tool_use_ids",)
    ),
    "nothing_to_answer": Code(409, "A turn without content needs a last message from user or tool.", ()),
    "conflict": Code(409, "The record has moved on."),
    "turn_already_open": Code(409, "The session has an open turn; one at a time.", ("turn_id",)),
    "turn_not_open": Code(409, "The turn has ended."),
    "no_decision_awaited": Code(409, "The turn does not wait for a decision on this call.", ("tool_use_id",)),
    "already_imported": Code(409, "The same bundle was taken in before.", ("session_id",)),
    "legal_hold": Code(409, "Nothing of the session may be erased while it is held.", ("session_id",)),
    "replay_ended": Code(409, "The replay has ended, or has no suite."),
    "suite_exists": Code(409, "There is a suite of this name.", ("field",)),
    "version_conflict": Code(412, "The session is not at the version that `If-Match` names.", ("current_version",)),
    "erased": Code(410, "Words that this needs are erased; the record is there.", ("positions",)),
    "idempotency_mismatch": Code(422, "The same key or id came before with other words."),
    "budget_too_small": Code(
        422, "The messages that must be in the window do not fit the budget.", ("required_tokens", "available_tokens")
    ),
    "content_not_supported": Code(422, "The model cannot take a block that it would be sent.", ("block", "takes")),
    "turn_limit_reached": Code(422, "A turn took more rounds, seconds or tokens than it may.", ("limit", "maximum")),
    # --- what ended without an answer (the guide's and the drop-in routes) ---
    "turn_cancelled": Code(409, "The turn was cancelled before it had an answer.", ("turn_id",)),
    "turn_interrupted": Code(503, "The server stopped under the turn.", ("turn_id",)),
    "client_left": Code(0, "The client left before the turn had an answer. Nobody reads this."),
    # --- not now ---
    "rate_limited": Code(429, "A key or a provider has had what it may have in a minute.", ("limit", "retry_after_s")),
    "overloaded": Code(
        503, "A bound of the server is reached.", ("limit", "maximum", "retry_after_s"), everywhere=True
    ),
    "shutting_down": Code(503, "The server is shutting down.", ("retry_after_s",), everywhere=True),
    "provider_circuit_open": Code(
        503, "The provider has failed too often lately, and is left alone for a while.", ("retry_after_s",)
    ),
    # --- providers and tools ---
    "provider_error": Code(502, "The model's provider failed."),
    "provider_unavailable": Code(
        503, "The provider could not be reached, is overloaded, or failed on its side.", ("retry_after_s",)
    ),
    "provider_rejected": Code(502, "The provider refused the request: credentials, model or content."),
    "context_too_long": Code(422, "The provider found the prompt longer than its model takes."),
    "provider_malformed": Code(502, "The provider answered something that is not its protocol."),
    "provider_too_large": Code(502, "The provider answered more than is taken.", ("limit", "maximum")),
    "provider_timed_out": Code(504, "The provider did not answer in time."),
    "provider_truncated": Code(502, "The provider's stream broke off; what came is kept."),
    "tool_error": Code(502, "A tool, or its server, failed."),
    # --- the server's own troubles ---
    "internal_error": Code(500, "The server made a mistake. Its log says more.", (), everywhere=True),
    "engine_error": Code(500, "The engine failed."),
    "record_damaged": Code(500, "The words of an event are not those that were recorded.", ("position",)),
    "store_error": Code(503, "The database would not do it. Nothing was written.", (), everywhere=True),
    "store_full": Code(507, "There is no room on the disk. Reading goes on.", (), everywhere=True),
    "store_unavailable": Code(503, "The database cannot be reached, or only be read.", (), everywhere=True),
    "store_corrupt": Code(503, "The database holds something that cannot be read.", (), everywhere=True),
    "store_foreign": Code(0, "The file is not a Manent database. The server does not start.", ()),
    "store_newer": Code(503, "The database is of a later version of Manent.", (), everywhere=True),
    "store_older": Code(0, "The database needs `manent migrate`. The server does not start.", ()),
    "store_locked": Code(0, "Another server holds the file. This one does not start.", ("pid",)),
    "secret_mismatch": Code(0, "The database names a secret, and its file is missing or holds another.", ()),
    "audit_error": Code(503, "The record is not what it should be."),
    "broken": Code(503, "The record is broken: `position` is the first that is wrong.", ("tenant", "position")),
    "behind": Code(503, "The database is older than its checkpoints outside: it is read, and not written.", ()),
    # --- in replays and commands only ---
    "cannot_replay": Code(0, "A recorded turn cannot be done again: the reason stands in its result."),
    "invalid_conversation": Code(0, "A file of `manent run` is not a conversation."),
    "server_refused": Code(0, "A server refused what a command asked of it: `problem` is its code.", ("problem",)),
}
