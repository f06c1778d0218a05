"""Signed references to messages: a client keeps one in the place of a message, and nobody else can make one.

A reference is a message's id and a keyed hash of it and its tenant; it says nothing of the words, and leads nowhere
once they are erased.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from functools import partial
from uuid import UUID

from ..errors import Invalid
from ..log.store import Store
from ..sessions.envelope import Caller
from ..sessions.views import Message
from .answers import messages_by_id

PURPOSE = b"reference/1"
ID_BYTES, HASH_BYTES = 16, 16


class Signed:
    """Makes and reads references. ``key``: the database's, of which this purpose has one of its own."""

    def __init__(self, store: Store, key: bytes) -> None:
        self._store = store
        self._key = hmac.digest(key, PURPOSE, hashlib.sha256)

    def reference(self, caller: Caller, message: UUID) -> str:
        """The reference to a message."""
        return base64.urlsafe_b64encode(message.bytes + self._hash(caller, message)).decode().rstrip("=")

    async def message(self, caller: Caller, reference: str) -> Message:
        """The message. Raises Invalid for a reference that was not made here for this tenant, and for one whose words
        are erased.
        """
        refusal = Invalid("reference", "is none that was given here, or its words are erased")
        try:
            raw = base64.urlsafe_b64decode(reference + "=" * (-len(reference) % 4))
        except (binascii.Error, ValueError):
            raise refusal from None
        if len(raw) != ID_BYTES + HASH_BYTES:
            raise refusal
        name = UUID(bytes=raw[:ID_BYTES])
        if not hmac.compare_digest(raw[ID_BYTES:], self._hash(caller, name)):
            raise refusal
        found = await self._store.read(partial(messages_by_id, tenant=caller.tenant, ids={name}))
        message: Message | None = found.get(name)
        if message is None or message.erased:
            raise refusal
        return message

    def _hash(self, caller: Caller, message: UUID) -> bytes:
        said = caller.tenant.encode() + b"\0" + message.bytes
        return hmac.digest(self._key, said, hashlib.sha256)[:HASH_BYTES]
