r"""Known secrets, cut out of what upstreams send before it is recorded or shown.

The secrets are the keys that the settings hold. An upstream knows the key that it was sent, and some show it: in an
error, in an id, in a text. What is recorded is hashed for ever, so the cut comes before the record. Text in deltas is
held back where it may be the beginning of a secret, until it is decided: the deltas of a block, joined, are its text
with each secret replaced. What cannot be cut without breaking it - a call's id or name, a block in the vendor's own
signed form - fails the attempt. Only a secret as it is written counts (in JSON with ``\/`` for ``/``, too): who knows
a secret and wants to tell it can always write it in another way.

Pure, and cheap where there is no secret: one look at each delta.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from ..errors import EngineError, ProviderError, ProviderMalformed
from ..settings import Settings
from .base import BlockStarted, BlockStopped, Chunk, Delta, Ended, UsageReported, VendorBlock

MARK = "[secret]"
MIN_CHARS = 12
"""A shorter key is a word that servers of one's own take for a key (``none``, ``ollama``), and stays in answers."""
HALF_CHARS = 4
"""From so many characters on, the beginning of a secret where a text was cut off is cut, too."""
OTHER = "other"
"""The stop reason in place of one that held a secret."""


class Secrets:
    """A set of secrets."""

    def __init__(self, values: Iterable[str | None]) -> None:
        plain = [value for value in values if value]
        written = {*plain, *(value.replace("/", "\\/") for value in plain)}
        self._values = sorted(written, key=len, reverse=True)
        self._any = re.compile("|".join(map(re.escape, self._values)))
        self._first = re.compile(f"[{re.escape(''.join({value[0] for value in self._values}))}]" if plain else r"(?!)")

    def __bool__(self) -> bool:
        return bool(self._values)

    def may_begin_in(self, text: str) -> bool:
        """False if no secret begins in the text, as is so of most."""
        return self._first.search(text) is not None

    def are_in(self, text: str) -> bool:
        """True if any secret is in the text."""
        return any(value in text for value in self._values)

    def cut(self, text: str) -> str:
        """The text with a mark in place of each secret; of two that begin at one place the longer counts."""
        return self._any.sub(MARK, text) if self.are_in(text) else text

    def cut_end(self, text: str) -> str:
        """The same for a text that was cut off, maybe in the midst of a secret."""
        text = self.cut(text)
        start = self._undecided(text, 0)
        return text if len(text) - start < HALF_CHARS else text[:start] + MARK

    def settle(self, text: str) -> tuple[str, str]:
        """Cut the beginning of a text that goes on: what is decided, and the rest, which may begin a secret."""
        done, start = [], 0
        while True:
            match = self._any.search(text, start) if self._values else None
            undecided = self._undecided(text, start)
            if match is None or undecided <= match.start():
                done.append(text[start:undecided])
                return "".join(done), text[undecided:]
            done += [text[start : match.start()], MARK]
            start = match.end()

    def _undecided(self, text: str, start: int) -> int:
        """Where the longest end of the text begins that is the beginning of a secret, and not all of it."""
        found = len(text)
        for value in self._values:
            place = text.find(value[0], max(start, len(text) - len(value) + 1))
            while 0 <= place < found:
                if value.startswith(text[place:]):
                    found = place
                place = text.find(value[0], place + 1)
        return found


def secrets_of(settings: Settings, more: Iterable[str] = ()) -> Secrets:
    """The vendors' keys in the settings, and ``more``."""
    given = (getattr(settings, name) for name in settings.__struct_fields__ if name.endswith("_api_key"))
    keys = (*given, *more)
    return Secrets(key for key in keys if key and len(key) >= MIN_CHARS)


class SecretCutter:
    """Cuts the secrets out of one answer: takes its chunks, and gives them on."""

    def __init__(self, secrets: Secrets, give: Callable[[Chunk], None]) -> None:
        self._secrets = secrets
        self._give = give
        self._held: dict[int, str] = {}

    def take(self, chunk: Chunk) -> None:
        """Take a chunk. Raises ProviderMalformed for a secret that cannot be cut, and what the receiver raises."""
        if not self._secrets:
            self._give(chunk)
            return
        match chunk:
            case Delta(block, text):  # nearly every chunk
                if self._held or self._secrets.may_begin_in(text):
                    self._say(block, text)
                else:
                    self._give(chunk)
            case BlockStopped(block):
                self._release(block, self._secrets.cut)
                self._give(chunk)
            case UsageReported(_, raw):
                self._give(msgspec.structs.replace(chunk, raw=self._cut_bytes(raw)))
            case Ended():
                self._give(self._cut_end(chunk))
            case BlockStarted(_, _, call, name):
                self._refuse_in(f"{call} {name}", "a tool call")
                self._give(chunk)
            case VendorBlock(_, kind, raw):
                self._refuse_in(f"{kind} {raw.decode(errors='replace')}", "a block in its own form")
                self._give(chunk)

    def break_off(self) -> None:
        """Give on what is still held of an answer that goes on no more; what may be half a secret is cut."""
        for block in list(self._held):
            self._release(block, self._secrets.cut_end)

    def without(self, error: EngineError) -> EngineError:
        """An error without secrets."""
        if not self._secrets:
            return error
        error.detail = self._secrets.cut(error.detail)
        if isinstance(error, ProviderError):
            error.upstream = self._secrets.cut_end(error.upstream)
            error.request_id = self._cut_id(error.request_id)
            if self._secrets.are_in(error.vendor_code or ""):
                error.vendor_code = None
        return error

    def _say(self, block: int, text: str) -> None:
        held = self._held.pop(block, "")
        decided, rest = self._secrets.settle(held + text)
        if rest:
            self._held[block] = rest
        if decided:
            self._give(Delta(block, decided))

    def _release(self, block: int, cut: Callable[[str], str]) -> None:
        text = cut(self._held.pop(block, ""))
        if text:
            self._give(Delta(block, text))

    def _cut_end(self, end: Ended) -> Ended:
        is_in = self._secrets.are_in
        return Ended(
            OTHER if is_in(end.stop_reason) else end.stop_reason,
            None if is_in(end.vendor_stop_reason or "") else end.vendor_stop_reason,
            self._cut_id(end.response_id),
            self._cut_id(end.request_id),
            None if is_in(end.stop_sequence or "") else end.stop_sequence,
        )

    def _cut_id(self, given: str | None) -> str | None:
        return None if given is None else self._secrets.cut(given)

    def _cut_bytes(self, raw: bytes) -> bytes:
        text = raw.decode(errors="surrogateescape")
        return self._secrets.cut(text).encode(errors="surrogateescape")

    def _refuse_in(self, text: str, what: str) -> None:
        if self._secrets.are_in(text):
            raise ProviderMalformed(f"the provider sent {what} that holds a key of this server's")
