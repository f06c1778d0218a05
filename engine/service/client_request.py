"""What a client asks in a vendor's protocol, as the engine takes it."""

from __future__ import annotations

from uuid import UUID

import msgspec

from ..events.turn_types import CacheMarks, Protocol
from .inputs import MessageIn
from .turns import TurnOptions


class ClientRequest(msgspec.Struct, frozen=True):
    """A request in a vendor's protocol. ``messages``: the whole history, the last of them to be answered; ``system``:
    the system prompt, None: there is none. ``end_user``: whom the client speaks for; ``session``: where to go on,
    whatever is recognised. ``verbatim``: what the client says of its own answers is sent as it says it, thinking and
    all; else what is on record stands for it. ``marks``: where the client wants the prompt cached, as vendors say it;
    the places of messages are those in ``messages``.

    With ``previous``, a turn of the protocol, or ``conversation``, a session, nothing is recognised: the messages are
    all new, and go on from the turn's answer, or at the session's end; the metadata of a conversation stay as they are.
    ``apart``: the turn runs in a session of its own, where nothing else goes on. ``stored``: the answer is served by
    the turn's id; ``told``: what is given back of the request with it, in the protocol's JSON; ``alias``: the client's
    own name of the conversation; ``summary``: the answer is to stand for what was said before.

    ``family``: a session of the client's conversation, which goes on rather than another in which the same was said.
    ``edited``: the client has changed what was said; where nothing of its history is on record, the turn runs in a fork
    of the family from before its first message. ``trims``: what is older than the model takes is left out, instead of
    being refused.
    """

    messages: tuple[MessageIn, ...]
    options: TurnOptions
    protocol: Protocol = "chat_completions"
    system: str | None = None
    end_user: str | None = None
    session: UUID | None = None
    metadata: dict[str, object] | None = None
    verbatim: bool = False
    marks: CacheMarks | None = None
    previous: UUID | None = None
    conversation: UUID | None = None
    apart: bool = False
    stored: bool = False
    told: bytes | None = None
    alias: str | None = None
    family: UUID | None = None
    edited: bool = False
    trims: bool = False
    summary: bool = False


class Retry(msgspec.Struct, frozen=True):
    """What an automatic retry is known by: the route and the bytes of the request; ``repeated``: it is one."""

    route: str
    body: bytes
    repeated: bool
