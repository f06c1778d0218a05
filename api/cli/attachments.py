"""Files that go with a question: images, and texts."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec

from ...engine import Invalid

IMAGES = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "gif": b"GIF8"}
"""How the files of a kind begin."""
WEBP = (b"RIFF", b"WEBP")


def blocks_of(text: str, files: tuple[Path, ...], most_bytes: int, setting: str) -> tuple[bytes, ...]:
    """The content blocks of a question: its files, each as an image or as a text below its name, and then its words.

    Raises Invalid for a file that cannot be read, or is too large, or is neither.
    """
    blocks = [_block(path, most_bytes, setting) for path in files]
    if text:
        blocks.append({"type": "text", "text": text})
    return tuple(msgspec.json.encode(block) for block in blocks)


def _block(path: Path, most_bytes: int, setting: str) -> dict[str, object]:
    data = _read(path, most_bytes, setting)
    kind = image_kind(data)
    if kind is not None:
        source = {"type": "base64", "media_type": f"image/{kind}", "data": base64.b64encode(data).decode()}
        return {"type": "image", "source": source}
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        kinds = ", ".join([*IMAGES, "webp"])
        raise Invalid("attach", f"{path} is neither an image ({kinds}) nor UTF-8 text")
    if not text.strip():
        raise Invalid("attach", f"{path} is empty")
    return {"type": "text", "text": f"{path.name}:\n\n{text}"}


def _read(path: Path, most_bytes: int, setting: str) -> bytes:
    """No more than may be: a file may be endless."""
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise Invalid("attach", f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise Invalid("attach", f"{str(path)!r} is not the name of a file") from None
    if len(data) > most_bytes:
        raise Invalid("attach", f"{path} is larger than {most_bytes} bytes, which is {setting}")
    return data


def image_kind(data: bytes) -> str | None:
    """The kind of an image, by how its file begins: ``png``, ``jpeg``, ``gif`` or ``webp``; None: it is none."""
    if data[:4] == WEBP[0] and data[8:12] == WEBP[1]:
        return "webp"
    return next((kind for kind, magic in IMAGES.items() if data.startswith(magic)), None)
