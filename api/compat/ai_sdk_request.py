"""Requests of the Vercel AI SDK's chats, and what the engine is asked with them.

A UI message of the assistant's holds all that happened up to its end: each step of it becomes the model's answer, then
a message for each result of its calls. The system messages at the beginning are the session's system prompt, after the
body's ``system``; later ones stay messages at their place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from uuid import UUID

import msgspec

from ...engine import (
    Block,
    ClientRequest,
    MessageIn,
    TextBlock,
    ToolResultBlock,
    words_of_refusal,
)
from ..http.errors import invalid
from . import ai_sdk_forms as forms
from .ai_sdk_options import client_tools, options_of, theirs
from .ai_sdk_parts import Part, assistants_step, file_block, output_content, read_parts_of
from .fields import read_parts

BETWEEN = TextBlock("\n\n")
"""Between the text of a file and another text."""

_MESSAGE = re.compile(r"messages\[(?P<number>\d+)\](?P<rest>.*)", re.DOTALL)
_BLOCK = re.compile(r"\.content\[(?P<block>\d+)\](?P<rest>.*)", re.DOTALL)
_IN_PART = {
    ".id": ".toolCallId",
    ".name": ".type",
    ".source.data": ".url",
    ".source.media_type": ".mediaType",
    ".source.url": ".url",
    ".tool_use_id": ".toolCallId",
}


class Decided(msgspec.Struct, frozen=True):
    """A person's decision on a call that a turn waits for. ``field``: where it stands in the body."""

    turn: UUID
    call: str
    approve: bool
    reason: str | None
    field: str


class Placed(msgspec.Struct, frozen=True):
    """A message as the engine takes it; ``client``: the number of the client's message that it is of, ``parts``: of its
    parts, by block.
    """

    message: MessageIn
    client: int
    parts: tuple[int, ...]


class Asked(msgspec.Struct, frozen=True):
    """A request as it was read. ``last_answer``: the id of the assistant's message at the end, which the new answer
    goes on; ``last_turn``: the turn that gave it, as far as the client says; ``answers``: the ids of all messages of
    the assistant's; ``edited``: what was said before was changed, or is to be answered again.
    """

    body: forms.ChatIn
    decided: tuple[Decided, ...]
    last_answer: str | None
    last_turn: str | None
    answers: frozenset[str]
    edited: bool
    request: ClientRequest | None
    names: Callable[[str], str]


def chat_request(body: forms.ChatIn) -> Asked:
    """Read a request: the decisions that it brings, or else what the engine is asked. Raises Problem."""
    said: tuple[forms.Said, ...] = read_parts(body.messages, forms.Said, "messages")
    if not said:
        raise invalid("messages", "must hold at least one message")
    parts = [read_parts_of(each, f"messages[{number}]") for number, each in enumerate(said)]
    again = body.trigger == "regenerate-message"
    if again:
        kept = _answered_again(said, body.message_id)
        said, parts = said[:kept], parts[:kept]
    decided = tuple(_decided(parts[-1], f"messages[{len(said) - 1}]")) if said[-1].role == "assistant" else ()
    last_answer = said[-1].id if said[-1].role == "assistant" else None
    last_turn = None if last_answer is None else _turn_of(said[-1].metadata)
    answers = frozenset(each.id for each in said if each.role == "assistant")
    edited = again or body.message_id is not None
    if decided:
        if len({each.turn for each in decided}) > 1:
            raise invalid(decided[-1].field, "is of another turn than the decisions before it")
        return Asked(body, decided, last_answer, last_turn, answers, edited, None, lambda field: field)
    tools = client_tools(body.tools)
    placed, system = _placed(said, parts, {tool.name for _, tool in tools})
    request = ClientRequest(
        tuple(each.message for each in placed),
        options_of(body, [tool for _, tool in tools]),
        protocol="ai_sdk",
        system=_joined(body.system, system),
        stored=True,
        alias=body.id,
        edited=edited,
    )
    return Asked(body, (), last_answer, last_turn, answers, edited, request, lambda field: _theirs(field, body, placed))


def _turn_of(metadata: object) -> str | None:
    """The turn that an answer's metadata name, as they were told with it; an application may have changed them."""
    turn = metadata.get("turn") if isinstance(metadata, dict) else None
    return turn if isinstance(turn, str) else None


def _joined(*texts: str | None) -> str | None:
    return "\n\n".join(text for text in texts if text) or None


def _answered_again(said: Sequence[forms.Said], message: str | None) -> int:
    """How many messages there are up to the user's that is to be answered again. Raises Problem."""
    found = next((number for number, each in enumerate(said) if each.id == message), None)
    if found is None:
        found = len(said) - 1
    count = found if said[found].role == "assistant" else found + 1
    if not count or said[count - 1].role != "user":
        raise invalid("messages", "must end with the user's message that is to be answered again")
    return count


# --- decisions --------------------------------------------------------------------------------------------------------


def _decided(parts: Sequence[Part], where: str) -> Iterator[Decided]:
    """The decisions on calls of turns here. One that refuses a call of no turn here is its result (``_result``)."""
    for number, part in parts:
        if not isinstance(part, forms.ToolPart) or part.state != "approval-responded":
            continue
        field = f"{where}.parts[{number}].approval"
        if part.approval is None or part.approval.approved is None:
            raise invalid(f"{field}.approved", "is required", "missing_field")
        place = forms.approval_of(part.approval.id)
        if place is not None:
            yield Decided(*place, part.approval.approved, part.approval.reason, field)
        elif part.approval.approved:
            raise invalid(f"{field}.id", "is none that was asked for here", "approval_not_found")


# --- messages ---------------------------------------------------------------------------------------------------------


def _placed(
    said: Sequence[forms.Said], parts: Sequence[Sequence[Part]], clients: Collection[str]
) -> tuple[list[Placed], str | None]:
    """The messages, and the system prompt before them. Raises Problem."""
    leading = next((number for number, each in enumerate(said) if each.role != "system"), len(said))
    system = _joined(*(_text(parts[number]) for number in range(leading)))
    placed: list[Placed] = []
    for number in range(leading, len(said)):
        match said[number].role:
            case "assistant":
                placed.extend(_answers(parts[number], number, clients))
            case "system":
                placed.append(Placed(MessageIn(_text(parts[number]), "system"), number, ()))
            case "user":
                placed.append(_users(parts[number], number))
    if not placed:
        raise invalid("messages", "must hold a message of the user's")
    return placed, system


def _text(parts: Sequence[Part]) -> str:
    return "".join(part.text for _, part in parts if isinstance(part, forms.TextPart))


def _users(parts: Sequence[Part], number: int) -> Placed:
    """A message of the user's. The text of a file stands apart from texts beside it: models are sent them as one."""
    blocks: list[Block] = []
    places: list[int] = []
    was_file = False
    for place, part in parts:
        is_file = isinstance(part, forms.FilePart)
        block = file_block(part, f"messages[{number}].parts[{place}]") if isinstance(part, forms.FilePart) else None
        if isinstance(part, forms.TextPart):
            block = TextBlock(part.text)
        if block is None:
            continue
        if blocks and (is_file or was_file) and isinstance(block, TextBlock) and isinstance(blocks[-1], TextBlock):
            blocks.append(BETWEEN)
            places.append(place)
        blocks.append(block)
        places.append(place)
        was_file = is_file
    if not any(not isinstance(block, TextBlock) or block.text for block in blocks):
        raise invalid(f"messages[{number}].parts", "must hold a text or a file", "empty_message")
    return Placed(MessageIn(tuple(blocks), "user"), number, tuple(places))


def _answers(parts: Sequence[Part], number: int, clients: Collection[str]) -> Iterator[Placed]:
    """What a message of the assistant's becomes. A step without content is none: the client saw its answer fail."""
    for step in _steps(parts):
        blocks, places = assistants_step(step, f"messages[{number}]")
        if blocks:
            yield Placed(MessageIn(tuple(blocks), "assistant"), number, tuple(places))
        results = [(place, part) for place, part in step if isinstance(part, forms.ToolPart)]
        # What runs here returns within the turn, and so before what the client runs.
        for place, part in sorted(results, key=lambda each: each[1].name in clients):
            result = _result(part, f"messages[{number}].parts[{place}]")
            if result is not None:
                yield Placed(MessageIn((result,), "tool"), number, (place,))


def _steps(parts: Sequence[Part]) -> Iterator[list[Part]]:
    step: list[Part] = []
    for place, part in parts:
        if isinstance(part, forms.StepStart):
            yield step
            step = []
        else:
            step.append((place, part))
    yield step


def _result(part: forms.ToolPart, where: str) -> ToolResultBlock | None:
    """The result of a call, if it has one yet."""
    match part.state:
        case "output-available":
            return ToolResultBlock(part.tool_call_id, output_content(part.output))
        case "output-error":
            if part.error_text is None:
                raise invalid(f"{where}.errorText", "is required", "missing_field")
            return ToolResultBlock(part.tool_call_id, part.error_text, is_error=True)
        case "output-denied" | "approval-responded":
            approval = part.approval
            if approval is None or approval.approved:
                return None
            return ToolResultBlock(part.tool_call_id, words_of_refusal(approval.reason), is_error=True)
        case _:
            return None


# --- names ------------------------------------------------------------------------------------------------------------


def _theirs(field: str, body: forms.ChatIn, placed: Sequence[Placed]) -> str:
    """The client's name of one of the engine's fields."""
    match = _MESSAGE.fullmatch(field)
    if match is None:
        return theirs(field, body.tools)
    number = int(match["number"])
    if number >= len(placed):
        return "messages"
    where = f"messages[{placed[number].client}]"
    block = _BLOCK.fullmatch(match["rest"])
    if block is None:
        return f"{where}.parts" if match["rest"].startswith(".content") else where + match["rest"]
    parts, place = placed[number].parts, int(block["block"])
    if place >= len(parts):
        return f"{where}.parts"
    return f"{where}.parts[{parts[place]}]{_IN_PART.get(block['rest'], '')}"
