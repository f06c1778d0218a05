"""A tool's output, made fit for the record and for a model: characters that can be stored, images that a vendor
accepts, and a bounded size.
"""

from __future__ import annotations

import base64
import binascii

from ..events.blocks import IMAGE_TYPES, Base64Source, ImageBlock, TextBlock, ToolContent

_REPLACEMENT = "\ufffd"
_UNSEEN = "[an image, not shown: this model takes none]"


def fit(content: ToolContent, most_bytes: int) -> tuple[ToolContent, int, bool]:
    """The content cut to ``most_bytes`` (the note about the cut not counted), its whole size, and True if it was cut.

    Text counts in UTF-8, images by their base64 or address. Raises TypeError for what is not content.
    """
    if isinstance(content, str):
        text = repair(content)
        size = len(text.encode())
        return (text, size, False) if size <= most_bytes else (_cut(text, most_bytes) + _note(size), size, True)
    if not isinstance(content, tuple | list):
        raise TypeError
    blocks = tuple(block for block in map(_sound, content) if not isinstance(block, TextBlock) or block.text)
    size = sum(map(_size, blocks))
    if size > most_bytes:
        return (*_first(blocks, most_bytes), TextBlock(_note(size).lstrip())), size, True
    return blocks or "", size, False


def in_words(content: ToolContent) -> ToolContent:
    """The content for a model that takes no images: each leaves a word behind."""
    if isinstance(content, str):
        return content
    return tuple(TextBlock(_UNSEEN) if isinstance(block, ImageBlock) else block for block in content)


def repair(text: str) -> str:
    """Text that can be stored and given back anywhere: NUL and half surrogates become U+FFFD."""
    text = text.replace("\0", _REPLACEMENT)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _first(blocks: tuple[TextBlock | ImageBlock, ...], most_bytes: int) -> list[TextBlock | ImageBlock]:
    """The blocks before the first that does not fit, and of that one, if it is text, as much as fits."""
    kept: list[TextBlock | ImageBlock] = []
    for block in blocks:
        if _size(block) > most_bytes:
            if isinstance(block, TextBlock) and (text := _cut(block.text, most_bytes)):
                kept.append(TextBlock(text))
            break
        kept.append(block)
        most_bytes -= _size(block)
    return kept


def _cut(text: str, most_bytes: int) -> str:
    return text.encode()[:most_bytes].decode(errors="ignore")


def _note(size: int) -> str:
    return f"\n[cut here: the whole output is {size} bytes, more than may be given back]"


def _size(block: TextBlock | ImageBlock) -> int:
    if isinstance(block, TextBlock):
        return len(block.text.encode())
    return len(block.source.data if isinstance(block.source, Base64Source) else block.source.url)


def _sound(block: object) -> TextBlock | ImageBlock:
    """A block that can be sent: one bad image would make a vendor refuse the whole conversation."""
    if isinstance(block, TextBlock):
        return TextBlock(repair(block.text))
    if not isinstance(block, ImageBlock):
        raise TypeError
    source = block.source
    if isinstance(source, Base64Source):
        good = source.media_type in IMAGE_TYPES and _is_base64(source.data)
        return block if good else TextBlock(repair(f"[an image of type {source.media_type[:64]} that cannot be shown]"))
    good = source.url.isascii() and source.url.isprintable() and source.url.startswith(("https://", "http://"))
    return block if good else TextBlock("[an image whose address cannot be used]")


def _is_base64(data: str) -> bool:
    try:
        return bool(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        return False
