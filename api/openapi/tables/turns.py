"""Turns: what they are asked, what they say, what they were sent, and the frames that show them."""

from __future__ import annotations

from .base import ANSWERED, HASH, LATER, MESSAGE, QUESTION, SCHEMA, SESSION, TURN, Group, Told
from .sessions import CONTENT

STOP_REASON = (
    (
        "Why the model stopped: `end_turn`, `max_tokens`, `stop_sequence`, `tool_use`, `refusal` or another; "
        "null while "
        "it has not, or where the turn did not complete."
    ),
    "end_turn",
)
EFFORT = "How much it thinks; null: not said. Not every model knows every word."
FORMAT = "What the answer must be: any text, a JSON object, or JSON of a schema."
TEMPERATURE = ("How freely it is sampled, 0 to 2; null: the model's own.", 0.2)
SAMPLING = {
    "temperature": TEMPERATURE,
    "top_p": ("Sample from the likeliest tokens that sum up to this probability, 0 to 1; null: not said.", 0.9),
    "top_k": ("Sample from so many likeliest tokens, 1 to 2147483647; null: not said.", 40),
    "seed": ("The seed of sampling, a whole number of 64 bits, for vendors that take one; null: not said.", 7),
    "presence_penalty": ("How much tokens that stood already are avoided, -2 to 2; null: not said.", 0.0),
    "frequency_penalty": ("How much tokens that stood often are avoided, -2 to 2; null: not said.", 0.0),
    "logit_bias": (
        "By the number of a token, what its likelihood is changed by, -100 to 100, 1024 at most; null: none.",
        {"50256": -100},
    ),
    "parallel_tool_calls": ("False: at most one tool is called at a time; null: not said.", True),
}

ANSWER_MESSAGE = {
    "id": MESSAGE,
    "session_id": SESSION,
    "version": 6,
    "position": 42,
    "role": "assistant",
    "content": ANSWERED,
    "token_count": 16,
    "complete": True,
    "erased": None,
    "turn_id": TURN,
    "actor": f"turn:{TURN}",
    "created_at": LATER,
    "model": "anthropic/claude-sonnet-4-6",
    "stop_reason": "end_turn",
    "pinned": False,
}

GROUP: Group = {
    "TurnIn": Told(
        "What a turn is asked. A parameter that the model does not have is refused by name, and never dropped.",
        {
            "content": (
                CONTENT[0] + " Short for a `message` of role user; null: answer what the session holds.",
                QUESTION,
            ),
            "message": "The message to answer. Goes without `content`.",
            "model": ("The model that answers; null: the session's.", "echo/echo"),
            "max_output_tokens": ("The most tokens of one answer; null: the session's.", 1024),
            "budget_tokens": ("How many tokens the window may have, reply included; null: the session's.", 8192),
            **SAMPLING,
            "response_format": FORMAT,
            "reasoning": "How much the model is asked to think; null: not said.",
            "task": (
                ("The kind of task, by which a route chooses a model, 1 to 64 of A-Z a-z 0-9 _ . -; null: none."),
                "draft",
            ),
            "stop": ("A text, or at most 16 texts of 1 to 256 characters, at which the model stops.", ["\n\n"]),
            "tools": (
                ("Names of registered tools that the server runs, at most `max_tools` (128) with `client_tools`."),
                ["calculator"],
            ),
            "client_tools": "Tools that the caller runs: the turn ends with their calls, and their results are "
            "appended.",
            "tool_choice": ("`auto`, `any` (also `required`), `none`, or the name of a tool; null: not said.", "auto"),
            "on_disconnect": "`cancel`: the turn is cancelled when its last reader has left.",
            "continue": ("True: go on with the partial answer of the turn before.", False),
            "from_version": ("Fork the session at this version first, and run in the fork; null: do not.", 6),
            "stream": ("True: answer with frames, false: with the ended turn; null: as `Accept` says.", True),
        },
        {"content": QUESTION},
    ),
    "ClientTool": Told(
        "A tool that the caller runs. Either vendor's form is taken.",
        {
            "parameters": ("A JSON Schema of type object; none at all: it has no parameters.", SCHEMA),
            "input_schema": ("The same as `parameters`, in Anthropic's words.", SCHEMA),
            "type": "In OpenAI's form `function`, in Anthropic's `custom`.",
            "function": "The tool, in OpenAI's form.",
        },
        {"name": "look", "description": "Looks out of the window.", "parameters": SCHEMA},
    ),
    "Function": Told(
        "A function that a model may call, in OpenAI's form.",
        {"parameters": ("A JSON Schema of type object.", SCHEMA)},
    ),
    "ResponseFormatIn": Told(
        "The form of an answer. A schema goes with `json_schema` alone.",
        {
            "type": FORMAT,
            "name": ("A name for the schema, 1 to 64 of A-Z a-z 0-9 _ -; null: none.", "weather"),
            "schema": ("The JSON Schema that the answer must be of; at most `max_schema_bytes`.", SCHEMA),
            "json_schema": "The schema in OpenAI's form. Goes without the other fields.",
        },
        {"type": "json_schema", "name": "weather", "schema": SCHEMA, "strict": True},
    ),
    "JsonSchema": Told(
        "A JSON Schema that an answer must be of, in OpenAI's form.",
        {
            "schema": ("The schema.", SCHEMA),
            "name": ("A name for it; null: none.", "weather"),
        },
    ),
    "ResponseFormat": Told(
        "The form of an answer, as it was asked for.",
        {
            "type": FORMAT,
            "name": ("The schema's name; null: none.", "weather"),
            "schema": ("The JSON Schema that the answer must be of.", SCHEMA),
        },
    ),
    "ReasoningIn": Told(
        "The thinking that a model is asked for: an effort, or a budget in tokens; one of the two.",
        {"effort": EFFORT, "budget_tokens": ("The most tokens that it thinks; null: not said.", 2048)},
        {"effort": "low"},
    ),
    "Reasoning": Told(
        "The thinking that a model was asked for.",
        {"effort": EFFORT, "budget_tokens": ("The most tokens that it thinks; null: not said.", None)},
    ),
    "DecisionIn": Told(
        "A person's word on a tool call that waits for it.",
        {
            "approve": ("True: the tool runs. False: the model is told that it was refused.", True),
            "reason": ("Why; null: not said. It is erased with the words of the session.", "She asked for it."),
        },
    ),
    "Turn": Told(
        "One run of the model: rounds of model and tools, until it has ended or waits for a person.",
        {
            "id": ("The turn's id, a UUIDv7 in canonical text.", TURN),
            "status": (
                (
                    "`running`, `requires_action` (a person must decide), `completed`, `failed`, `cancelled`, or "
                    "`interrupted` (the server stopped under it)."
                ),
                "completed",
            ),
            "stop_reason": STOP_REASON,
            "vendor_stop_reason": ("The vendor's own word for it; null: none.", "end_turn"),
            "stop_sequence": ("The text at which it stopped; there if the vendor says which.", "END"),
            "attempts": "Its requests to providers, in order.",
            "error": "Why it failed; null where it did not.",
            "messages": ("The messages that it made, in order.", [ANSWER_MESSAGE]),
            "message": ("The last of its messages from the assistant; null: there is none.", ANSWER_MESSAGE),
            "pending_approvals": "The tool calls that a person must decide on.",
        },
    ),
    "Attempt": Told(
        "One request to a provider.",
        {
            "round": ("The round of the turn, from 1: a round ends with an answer.", 1),
            "attempt": ("The attempt within the round, from 1.", 1),
            "outcome": ("`completed`, or the code of what ended it; null while it runs.", "completed"),
            "usage": "Its tokens; null: none were reported.",
        },
    ),
    "Failure": Told(
        "Why a turn failed.",
        {
            "code": ("The error's code: see ErrorCode.", "provider_unavailable"),
            "detail": ("A sentence for people; null where it is erased.", "the provider could not be reached"),
            "retryable": ("True: the same again may succeed.", True),
            "limit": ("The setting that bounds what there was too much of; there if one does.", "max_rounds"),
            "maximum": ("That setting's value.", 16),
            "retry_after_s": ("The delay that the vendor asks for, whole seconds; there if it asks.", 7),
        },
        without=("limit", "maximum", "retry_after_s"),
    ),
    "Approval": Told(
        "A tool call that a person must decide on.",
        {
            "name": ("The tool's name.", "send_mail"),
            "input": (
                "What it would be given; null where that is no JSON object, or is erased.",
                {"to": "a@example.com"},
            ),
            "message_id": ("The message in which the model makes the call.", MESSAGE),
        },
    ),
    "Usage": Told(
        "Tokens. Null means that they were not reported, which is not none.",
        {
            "input_tokens": ("All tokens of the input; the cache classes are parts of it.", 96),
            "cache_read_tokens": ("Those that were read from the vendor's cache.", 0),
            "cache_write_tokens": ("Those that were written to the vendor's cache.", 0),
            "output_tokens": ("All tokens of the output, thinking included.", 16),
            "reasoning_tokens": ("Those of the output that are thinking.", None),
            "estimated": ("True: counted by the server, and not by the vendor.", False),
        },
    ),
    "Cost": Told(
        "An amount of money.",
        {
            "micros": ("Millionths of the currency.", 528),
            "estimated": ("True: of tokens that the server counted, and not the vendor.", False),
        },
    ),
    "TurnList": Told("A page of turns.", {"items": "The turns of this page."}),
    "SentPrompt": Told(
        "The exact request of one attempt, derived from the record again.",
        {
            "attempt": ("Which attempt of the turn, counted along its rounds from 1.", 1),
            "request": (
                "The request as a JSON object; null where it is no JSON.",
                {"model": "echo", "messages": [{"role": "user", "content": QUESTION}]},
            ),
            "request_bytes_base64": ("The request to the byte, in base64.", "eyJtb2RlbCI6ImVjaG8ifQ=="),
            "renderer": ("The renderer that wrote the request, with its version.", "anthropic-messages/1"),
            "parameters": "The parameters that it was sent with.",
            "tools": "The tools that the model was told of.",
            "commitment": ("SHA-256 over the recorded salt and the derived bytes, in hex.", HASH),
            "recorded_commitment": ("The commitment that was recorded before the request was sent, in hex.", HASH),
            "matches": ("True: both are the same, and this is what was sent.", True),
            "window": "What was in its window, what was not, and why.",
        },
    ),
    "Parameters": Told(
        "The parameters of a request. Null: not given, and then nothing was sent.",
        {
            **SAMPLING,
            "stop": ("Texts at which the model stops.", []),
            "tool_choice": ("`auto`, `any`, `none`, or the name of a tool.", "auto"),
            "response_format": FORMAT,
            "reasoning": "The thinking that the model was asked for.",
        },
    ),
    "ToolSchema": Told(
        "A tool as a model is told of it.",
        {"parameters": ("A JSON Schema of type object.", SCHEMA)},
    ),
    "SentWindow": Told(
        "The window of a request, as it was recorded. `used_tokens` is `base_tokens` times `factor_permille` / 1000, "
        "rounded up, and `overhead` for each of `included`.",
        {
            "budget_tokens": ("The budget that it kept to, reply included.", 8192),
            "tool_tokens": ("Base tokens of the schemas of tools and of the answer.", 0),
            "included": "The messages in it, in order.",
            "omitted": "The messages that it left out.",
        },
    ),
    "WindowMessage": Told(
        "A message that was in a window, or was not, and why.",
        {
            "reason": (
                (
                    "In it: `system`, `pinned`, `last_user` (the newest message of a user), `last_unit` or "
                    "`newest_that_fits`. Not in it: `erased`, `empty`, `superseded`, `incomplete` (the user's message "
                    "that begins the exchange is not there), or `budget` (it did not fit)."
                ),
                "newest_that_fits",
            ),
        },
    ),
    "LeftOut": Told(
        "The messages that a window left out.",
        {
            "tokens": ("Their base tokens.", 31),
            "by_reason": (
                "The same by reason, adding up to `count` and `tokens`.",
                {"budget": {"count": 2, "tokens": 31}},
            ),
            "items": "The nearest 100 of them, the newest first.",
        },
    ),
    "MessageCount": Told("Messages, and their base tokens.", {"count": ("How many messages.", 2)}),
    "TurnFrame": Told("A frame of a turn's stream: one server-sent event. Clients ignore types that they do not know."),
    "FrameTurn": Told(
        "A turn as frames tell it: its messages are named by id, for frames have shown them.",
        {
            "message_ids": ("Ids of the messages that it made, in order.", [MESSAGE]),
        },
    ),
    "BlockStarted": Told(
        "The data of `block.started`: a block of the answer begins.",
        {
            "block": ("The block's place in the message, from 0.", 0),
            "type": ("The kind of block: `text`, `thinking`, `tool_use`, or another.", "text"),
            "id": ("The call's id, of a `tool_use`.", "call_1"),
            "name": ("The tool's name, of a `tool_use`.", "look"),
        },
        without=("id", "name"),
    ),
    "Delta": Told(
        "The data of `delta`: a piece of a block. The deltas of a block, joined, are the recorded block to the byte.",
        {
            "block": ("The block's place in the message, from 0.", 0),
            "type": "What the piece is of: text, thinking, or the JSON of a tool's input.",
            "text": ("The piece.", "Clause 4 limits "),
        },
    ),
    "ToolCalled": Told(
        "The data of `tool.called`. The input stands in the message.",
        {
            "tool_use_id": ("The call's id; null where it is erased.", "call_1"),
            "name": ("The tool's name; null where it is erased.", "look"),
            "runner": ("Who runs it: `server`, or `client`.", "server"),
        },
    ),
    "ToolReturned": Told(
        "The data of `tool.returned`. What the tool said is in the message that follows.",
        {
            "tool_use_id": ("The call's id; null where it is erased.", "call_1"),
            "name": ("The tool's name; null where it is erased.", "look"),
            "outcome": ("`completed`, or the code of what went wrong.", "completed"),
            "is_error": ("True: the call failed.", False),
            "duration_ms": ("How long it ran, milliseconds; null: it did not.", 12),
        },
    ),
    "Decision": Told(
        "The data of `tool.approved` and `tool.refused`.",
        {
            "tool_use_id": ("The call's id; null where it is erased.", "call_1"),
            "approve": ("True: the tool runs.", True),
            "reason": ("Why; null: not said, or erased.", None),
        },
    ),
    "AttemptFailed": Told(
        "The data of `attempt.failed`: the provider failed, and another attempt follows.",
        {
            "round": ("The round of the turn, from 1.", 1),
            "attempt": ("The attempt within the round, from 1.", 1),
            "code": ("The error's code: see ErrorCode.", "provider_unavailable"),
        },
    ),
}
