r"""Half characters: JSON may write a character beyond U+FFFF as two escapes, and a vendor may cut between them.

``"\ud83d"`` in one chunk and ``"\ude00"`` in the next are one emoji. The fast JSON decoder refuses such halves, as
UTF-8 must; here they are read all the same, held until the other half has come, and U+FFFD if it never does.
"""

from __future__ import annotations

import json
from typing import Any

_REPLACEMENT = "\ufffd"


def read_with_halves(data: str) -> Any:
    """Read JSON whose strings may hold half surrogates. Raises ValueError for anything else."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError from None


class Halves:
    """Makes the deltas of one block valid Unicode, wherever they are cut."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """The text that can be passed on now; it may be empty."""
        if not self._held and text.isascii():
            return text
        text = self._held + text
        self._held = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        if self._held:
            text = text[:-1]
        try:
            text.encode()
        except UnicodeEncodeError:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return text

    def close(self) -> str:
        """The rest at the end of the block."""
        left, self._held = self._held, ""
        return _REPLACEMENT if left else ""
