"""Models, tools, keys, health, the guide's routes, the drop-in routes' own, and errors."""

from __future__ import annotations

from .base import ANSWER, EXPIRES, QUESTION, SCHEMA, SESSION, Group, Told
from .sessions import CONTENT

RATES = {
    "input": ("Millionths of the currency for a million input tokens.", 3_000_000),
    "cache_read": ("The same for tokens read from the cache; null: as input.", 300_000),
    "cache_write": ("The same for tokens written to the cache; null: as input.", 3_750_000),
    "output": ("The same for output tokens.", 15_000_000),
}
EMPTY_IS_ABSENT = " Empty means absent, as in the guide's language."
ASKED = {
    "message": ("The question.", QUESTION),
    "model": ("The model that answers; null: the server's." + EMPTY_IS_ABSENT, "echo/echo"),
    "system": ("The system prompt; null: the guide's own." + EMPTY_IS_ABSENT, "You are a careful assistant."),
}

GROUP: Group = {
    "Model": Told(
        "A model that can be asked. Null means that it is not known.",
        {
            "name": ("Its full name, `provider/model`.", "anthropic/claude-sonnet-4-6"),
            "context_tokens": ("The most tokens of a request and its answer together.", 200_000),
            "max_output_tokens": ("The most tokens of one answer.", 64_000),
            "capabilities": (
                "What it takes and can: `text`, `images`, `documents`, `tools`, `sampling` …",
                ["text", "images", "tools"],
            ),
            "price": "What it costs today; null: not known.",
        },
    ),
    "ModelList": Told("A page of models.", {"items": "The models of this page."}),
    "Price": Told(
        "What tokens cost.",
        RATES
        | {
            "from": ("The day from which it holds (UTC); null: always.", "2026-01-01"),
            "tier": "Other rates for large requests; null: none.",
        },
    ),
    "Tier": Told(
        "The rates of all tokens of a request that has more input tokens than this.",
        RATES | {"above_input_tokens": ("The input tokens above which they hold.", 200_000)},
    ),
    "ToolInfo": Told(
        "A registered tool, which the server runs.",
        {
            "name": ("Its name, by which turns offer it.", "calculator"),
            "description": ("What it does, which models read.", "Calculates an expression."),
            "parameters": ("A JSON Schema of type object.", SCHEMA),
            "approval": ("True: a person must say yes to each call.", False),
        },
    ),
    "ToolList": Told("A page of tools.", {"items": "The tools of this page."}),
    "TokensIn": Told("Words that are counted.", {"content": CONTENT}, {"model": "echo/echo", "content": QUESTION}),
    "TokenCount": Told(
        "Tokens of one message.",
        {
            "tokens": ("How many.", 7),
            "counter": ("Who counted: a provider, or the server's own rules.", "o200k_base/1"),
            "exact": ("True: the vendor counted; false: an estimate.", False),
        },
    ),
    "Me": Told(
        "Who a key belongs to, and what it may do.",
        {
            "actor": ("The actor that events name.", "key:alice"),
            "tenant": ("Whose log it is.", "default"),
            "scopes": ("What the key may do: `chat`, `audit`, `erase`, `operate`.", ["audit", "chat"]),
        },
    ),
    "TicketIn": Told(
        "What a ticket is for.",
        {
            "path": (
                "The path of a URL, as it is written there and without a query.",
                f"/api/sessions/{SESSION}/transcript",
            )
        },
    ),
    "Ticket": Told(
        "A ticket, which stands for the key in a URL, as `?ticket=`.",
        {
            "ticket": ("The ticket.", "1796073737482913.alice.9f86d081884c7d65"),
            "expires_at": ("When it expires: 60 seconds after it was issued (RFC 3339, UTC).", EXPIRES),
        },
    ),
    "NothingIn": Told("No field at all.", {}, {}),
    "Readiness": Told(
        "Whether the engine can write, and takes turns.",
        {
            "status": "`not ready`: it cannot write, or shuts down.",
            "damaged": ("How many rows this process has read whose words are not those that were recorded.", 0),
        },
    ),
    "CompleteIn": Told("A question of the guide's.", ASKED, {"message": QUESTION, "model": "echo/echo"}),
    "CompleteOut": Told("An answer in the guide's envelope.", {"data": "The answer."}),
    "Reply": Told("An answer.", {"reply": ("The text of the answer.", ANSWER)}),
    "ChatIn": Told(
        "A message of the guide's, in a conversation.",
        ASKED | {"session_id": ("The conversation to go on in; null: a new one." + EMPTY_IS_ABSENT, SESSION)},
        {"message": QUESTION},
    ),
    "ChatOut": Told("An answer in the guide's envelope.", {"data": "The answer."}),
    "ChatReply": Told(
        "An answer in a conversation.",
        {
            "session_id": ("The conversation: sent back, it is gone on with.", SESSION),
            "reply": ("The text of the answer.", ANSWER),
            "usage": "Tokens that were used.",
        },
    ),
    "VendorModel": Told(
        "A model as either vendor's clients read it: OpenAI's fields and Anthropic's in one object.",
        {
            "id": ("Its full name, by which it is asked.", "echo/echo"),
            "owned_by": ("The provider's name (OpenAI's field).", "echo"),
            "display_name": ("The name without the provider (Anthropic's field).", "echo"),
            "max_input_tokens": ("The most tokens of a request; null: not known.", 200_000),
            "max_tokens": ("The most tokens of one answer; null: not known.", 64_000),
            "object": ("Always `model` (OpenAI's field).", "model"),
            "type": ("Always `model` (Anthropic's field).", "model"),
            "created": ("Always 0: it is not known here (OpenAI's field).", 0),
            "created_at": (
                "Always the beginning of 1970: it is not known here (Anthropic's field).",
                "1970-01-01T00:00:00Z",
            ),
            "lifecycle": ("Always `active`.", "active"),
        },
    ),
    "VendorModels": Told(
        "A page of models, as either vendor's clients read it.",
        {
            "data": "The models of this page.",
            "has_more": ("True: there are more.", False),
            "first_id": ("The first model's name; null: there is none.", "echo/echo"),
            "last_id": ("The last model's name; null: there is none.", "echo/paced"),
            "object": ("Always `list`.", "list"),
        },
    ),
    "Problem": Told(
        "RFC 9457. `code` is stable; `field` and others stand beside it where they help.",
        {
            "type": ("Always `about:blank`: `code` says more.", "about:blank"),
            "title": ("The status in words.", "Not Found"),
            "status": ("The status of the answer.", 404),
            "detail": ("A sentence for people. It may change.", f"there is no session {SESSION}"),
            "code": "What went wrong. Clients branch on it.",
            "field": ("The field, parameter or header that it is about; there if it is about one.", "session_id"),
        },
        without=("field",),
    ),
    "GuideError": Told(
        "The error envelope of the guide's routes, in its toolkit's words; `details.code` is Manent's own.",
        {"error": "What went wrong."},
    ),
    "GuideErrorInside": Told(
        "What went wrong, in the toolkit's words.",
        {
            "code": ("The toolkit's code.", "RESOURCE_NOT_FOUND"),
            "message": ("A sentence for people. It may change.", f"there is no session {SESSION}"),
            "category": ("The toolkit's category.", "client_error"),
            "type": ("The toolkit's type.", "resource_not_found"),
            "details": "Manent's own words.",
        },
    ),
    "GuideErrorDetails": Told(
        "Manent's own words on an error, and what goes with them.",
        {"code": "What went wrong. Clients branch on it."},
    ),
    "VendorError": Told(
        "An error as OpenAI's protocol tells it, or Anthropic's: that of the path. `code` is stable.",
        {"type": ("Anthropic's: always `error`.", "error"), "error": "What went wrong."},
        {
            "error": {
                "message": "there is no model gpt-99",
                "type": "invalid_request_error",
                "param": "model",
                "code": "model_not_found",
            }
        },
    ),
    "VendorErrorInside": Told(
        "What went wrong, in the vendor's words.",
        {
            "message": ("A sentence for people. It may change.", "there is no model gpt-99"),
            "type": ("The vendor's type.", "invalid_request_error"),
            "code": ("The vendor's code where it has one, else Manent's: see ErrorCode.", "model_not_found"),
            "param": ("The parameter that it is about; null: none.", "model"),
        },
    ),
}
