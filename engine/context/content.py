"""Check a prompt against its model's capabilities, before anything is recorded or sent.

Only images are taken by some models and not by others. One that is in the window already, since it was said to another
model, is refused as well: leaving it out would let the model answer to something else than what stands in the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import ContentNotSupported
from ..events.blocks import Content, ImageBlock, ToolResultBlock
from ..events.types import NewMessage
from ..providers.base import Prompt
from ..providers.registry import ResolvedModel
from .prompt import UNPLACED, ChosenWindow, content_of

IMAGES = "images"
KINDS = ("text", IMAGES)
"""Capabilities that are kinds of content."""


def has_images(prompt: Prompt) -> bool:
    """True if only a model that takes images can be asked this."""
    return any(True for message in prompt.messages for _ in _images(message.content))


def check_content(prompt: Prompt, window: ChosenWindow, model: ResolvedModel, new: NewMessage | None) -> None:
    """Raises ContentNotSupported, which names the first block of the window that the model cannot take."""
    if model.info.can(IMAGES) or not has_images(prompt):
        return
    for row in window.chosen.rows:
        is_new = row.position == UNPLACED
        content = new.content if is_new and new is not None else content_of(window, row)
        for block in _images(content):
            raise _refusal(model, block, f"message.{block}" if is_new else "model", None if is_new else row.version)


def check_said(contents: Iterable[Content], model: ResolvedModel, recorded: int = 0) -> None:
    """Check a client's messages, and those on record before them, so many as ``recorded``. Raises ContentNotSupported,
    which names the first block that the model cannot take.
    """
    for number, content in enumerate(() if model.info.can(IMAGES) else contents):
        for block in _images(content):
            raise _refusal(model, block, "model" if number < recorded else f"messages[{number - recorded}].{block}")


def check_message(content: Content, model: ResolvedModel) -> None:
    """Check a single message. Raises ContentNotSupported, which names the first block that the model cannot take."""
    for block in () if model.info.can(IMAGES) else _images(content):
        raise _refusal(model, block, block)


def _images(content: Content) -> Iterator[str]:
    """The places of all images in a message."""
    for number, block in enumerate(content):
        if isinstance(block, ImageBlock):
            yield f"content[{number}]"
        elif isinstance(block, ToolResultBlock) and not isinstance(block.content, str):
            yield from (f"content[{number}].{inner}" for inner in _images(block.content))


def _refusal(model: ResolvedModel, block: str, field: str, version: int | None = None) -> ContentNotSupported:
    takes = [kind for kind in KINDS if model.info.can(kind)] or ["text"]
    cannot = f"is an image, and {model.name} takes {' and '.join(takes)} only"
    detail = f"{field}: {cannot}"
    if field == "model":
        detail = f"model: {block} of an earlier message {cannot}; ask another model, or erase that message"
    members: dict[str, object] = {"field": field, "block": block, "block_type": "image", "takes": takes}
    if version is not None:
        detail = (
            f"model: {block} of the message at version {version} {cannot}; ask another model, or erase that message"
        )
        members["version"] = version
    return ContentNotSupported(detail, model=model.name, **members)
