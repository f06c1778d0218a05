"""Vendors' own forms of blocks under an opaque text: a client that is given one keeps it and gives it back, and so the
vendor gets to the byte what it gave.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import msgspec

from ..http.errors import invalid

SEALED = re.compile(r"manent\.(?P<kind>thought|block)\.(?P<raw>[A-Za-z0-9_-]+)")
"""A text under which a vendor's block stands, with base64url of its JSON."""


def sealed(kind: str, raw: bytes) -> str:
    """The text under which a vendor's form stands: of a ``thought``, or of a ``block`` that is none."""
    return f"manent.{kind}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


def unsealed(text: str, where: str, noun: str) -> msgspec.Raw:
    """The JSON under such a text, from its base64url. ``noun``: what the protocol calls it, with its article. Raises
    Problem for one that nobody was given here.
    """
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        msgspec.json.decode(raw, type=dict[str, Any])
        raw.decode()
    except (binascii.Error, ValueError, RecursionError):
        raise invalid(where, f"is not {noun} that was given here") from None
    return msgspec.Raw(raw)
