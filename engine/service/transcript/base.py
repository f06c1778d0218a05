"""The entries of a transcript, and the contract of those that write it down.

An entry tells one event. What the engine says in it (``says``, captions, names of details) is a plain sentence of our
own; every other text may come from a user, a model or a tool, and a writer shows it as text, whatever it holds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal
from uuid import UUID

import msgspec

from ...sessions.views import ErasureInfo, Session

Kind = Literal["user", "assistant", "tool", "system", "turn", "failed", "session", "erasure"]
"""What an entry is about, which a page shows by colour: a message by its role, or an event that is no message."""

Pairs = tuple[tuple[str, str], ...]


class Passage(msgspec.Struct, frozen=True):
    """A text that somebody gave. ``caption`` says what it is; ``code``: it is JSON, or another notation."""

    caption: str
    text: str
    code: bool = False


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One event. ``who`` did or said it; ``at`` is RFC 3339; ``gone`` tells of the erasure of its words, ``damaged``
    that they are not those that were recorded. ``targets``: positions of the events that it erased.
    """

    kind: Kind
    position: int
    version: int
    at: str
    who: str
    says: str
    details: Pairs = ()
    passages: tuple[Passage, ...] = ()
    gone: ErasureInfo | None = None
    damaged: bool = False
    targets: tuple[int, ...] = ()


class Heading(msgspec.Struct, frozen=True):
    """What stands at the top. ``session`` as it is now, or was at ``version``, which is the last that is told;
    ``newest`` is the version that it has now.
    """

    session: Session
    tenant: str
    newest: int
    made_at: str
    made_for: str

    @property
    def title(self) -> str:
        return self.session.title or f"Session {self.session.id}"

    @property
    def facts(self) -> Pairs:
        """Names and values; empty values are left out."""
        session = self.session
        usage = session.usage
        tokens = f"{usage.input_tokens or 0:,} in, {usage.output_tokens or 0:,} out" if usage.input_tokens else ""
        all_of = "" if session.version == self.newest else f" of {self.newest:,}"
        facts = (
            ("Session", str(session.id)),
            ("Log", self.tenant),
            ("Model", session.model),
            ("Begun", moment(session.created_at)),
            ("Last event", moment(session.updated_at)),
            ("Status", session.status),
            ("Messages", f"{session.message_count:,}"),
            ("Turns", f"{session.turn_count:,}, of which {session.failed_count:,} failed"),
            ("Tokens", tokens),
            ("Versions told", f"1 to {session.version:,}{all_of}"),
            ("User", session.user_id or ""),
            ("Agent", session.agent_id or ""),
            ("Legal hold", "yes: nothing may be erased" if session.legal_hold else "no"),
            ("Expires", moment(session.expires_at) if session.expires_at else ""),
            ("Transcript made", f"{moment(self.made_at)}, for {self.made_for}"),
        )
        return tuple((name, value) for name, value in facts if value)

    @property
    def history(self) -> str:
        """A sentence on where the beginning of a fork's history comes from; empty for what is no fork."""
        parent = self.session.parent
        if parent is None:
            return ""
        return (
            f"This session is a fork: its versions 1 to {parent.version} are the history of session "
            f"{parent.session_id}, which it shares. What follows is its own."
        )


class Signed(msgspec.Struct, frozen=True):
    """A signature below a checkpoint: the signer's name, and the key's id in hex."""

    name: str
    key_id: str


class Proof(msgspec.Struct, frozen=True):
    """The checkpoint that covers what was told. ``root`` is hex; ``note`` is the signed text."""

    origin: str
    size: int
    root: str
    note: str
    signatures: tuple[Signed, ...]
    position: int
    leaf_hash: str

    @property
    def facts(self) -> Pairs:
        signed = (("Signature by", f"{each.name}, key id {each.key_id}") for each in self.signatures)
        return (
            ("Log (origin)", self.origin),
            ("Events covered (size)", f"{self.size:,}"),
            ("Root (SHA-256, hex)", self.root),
            *signed,
            ("Last event told", f"position {self.position:,}, leaf hash {self.leaf_hash}"),
        )


GET_THE_KEY = (
    "Get the log's verifier key from somebody you trust, and not with this transcript: whoever makes up a record makes "
    "up a key with it. Its id must be the one named above."
)
CHECK_THE_DATABASE = "Who has the database checks all of it: every event, every hash, every erasure, every checkpoint."
GET_THE_BUNDLE = "Who has not asks for the session's bundle, which holds the events and their proofs."
CHECK_THE_BUNDLE = (
    "The verifier in the bundle needs Python 3.11 and nothing else: no server, no database, no network. Take it, as "
    "the key, from somewhere you trust. What it passes is what was recorded."
)
PROVE_ONE = "One event alone is proved by its version, against the same checkpoint."


class Ending(msgspec.Struct, frozen=True):
    """What stands at the end: the proof, or (None) why there is none; and how to check it."""

    session: UUID
    version: int
    proof: Proof | None
    missing: str = ""

    @property
    def steps(self) -> tuple[tuple[str, str], ...]:
        """What to do, and the command that does it."""
        return (
            (GET_THE_KEY, "manent checkpoint --keys"),
            (CHECK_THE_DATABASE, "manent verify --key 'NAME+HASH+KEY'"),
            (GET_THE_BUNDLE, f"manent export {self.session} --output bundle.zip"),
            (CHECK_THE_BUNDLE, "python3 verify_bundle.py bundle.zip --key 'NAME+HASH+KEY'"),
            (PROVE_ONE, f"manent proof {self.session} {self.version}"),
        )


class Writer(ABC):
    """Writes a transcript in one notation, piece by piece."""

    @abstractmethod
    def head(self, heading: Heading) -> str:
        """All before the first entry."""

    @abstractmethod
    def entry(self, entry: Entry) -> str:
        """One entry."""

    def silent(self, position: int) -> str:  # noqa: ARG002 - what a page says of it
        """An event that others tell of, and that an erasure may point to."""
        return ""

    @abstractmethod
    def fork(self, heading: Heading) -> str:
        """The place at which a fork's own history begins."""

    @abstractmethod
    def end(self, ending: Ending) -> str:
        """All after the last entry."""


WHAT_IT_IS = (
    "This is a reading of the record, made for people. It is not signed itself: what is signed is the record, and the "
    "last section says by which checkpoint and how to check it. Times are the server's clock, in UTC. Each entry names "
    "its version in the session and its position in the log."
)


def moment(at: str) -> str:
    """A time (RFC 3339, UTC) to the second, as people read it."""
    return f"{at[:10]} {at[11:19]} UTC"


def erased(gone: ErasureInfo) -> tuple[str, str | None]:
    """A sentence on an erasure, and the reason that was given for it, if that can still be read."""
    return f"Erased by {gone.actor} on {moment(gone.at)} (position {gone.by_position:,}).", gone.reason
