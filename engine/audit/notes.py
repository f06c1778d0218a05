"""Signed notes, as C2SP signed-note states them, and those among them that are checkpoints (C2SP tlog-checkpoint).

A note is text with signature lines below it; its text means nothing until a signature by a known key was verified.
Our own are Ed25519; those of witnesses (C2SP tlog-cosignature) carry the time besides.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..errors import ProofInvalid
from ..log.merkle import HASH_BYTES

ED25519, COSIGNATURE = 0x01, 0x04
"""Types of signature: of a log, and of a witness."""

KEY_ID_BYTES = 4
PUBLIC_BYTES = 32
TIME_BYTES = 8
MAX_NOTE_CHARS = 1 << 16
MAX_SIGNATURES = 64

_SIGNATURE = re.compile(r"\u2014 (?P<name>[^\s+]+) (?P<data>[A-Za-z0-9+/]+={0,2})")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class Signature(msgspec.Struct, frozen=True):
    """A signature line: who (name and 4-byte key id), and the rest of its bytes."""

    name: str
    key_id: bytes
    data: bytes

    def line(self) -> str:
        return f"\u2014 {self.name} {_base64(self.key_id + self.data)}\n"


class Note(msgspec.Struct, frozen=True):
    """``text`` ends with a newline."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return self.text + "\n" + "".join(signature.line() for signature in self.signatures)


class Verifier(msgspec.Struct, frozen=True):
    """A verifier key: whose signatures it knows, of which type, by which public key."""

    name: str
    kind: int
    public: bytes

    @property
    def key_id(self) -> bytes:
        said = self.name.encode() + b"\n" + bytes([self.kind]) + self.public
        return hashlib.sha256(said).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        """``name+hash+key``, as tools take it."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(bytes([self.kind]) + self.public)}"

    def signed(self, note: Note) -> bool:
        """True if the note has a good signature by this key; a bad one in its name is none."""
        mine = [each for each in note.signatures if (each.name, each.key_id) == (self.name, self.key_id)]
        return bool(mine) and all(self._verifies(note.text, each.data) for each in mine)

    def _verifies(self, text: str, data: bytes) -> bool:
        signed, signature = text.encode(), data
        if self.kind == COSIGNATURE:
            time_s, signature = int.from_bytes(data[:TIME_BYTES], "big"), data[TIME_BYTES:]
            signed = f"cosignature/v1\ntime {time_s}\n".encode() + signed
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, signed)
        except (InvalidSignature, ValueError):
            return False
        return True


class Checkpoint(msgspec.Struct, frozen=True):
    """The statement of a log's checkpoint: its name, how many leaves, and their root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"


class Signer:
    """Signs a log's checkpoints; the key's name is the log's origin."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw()

    def verifier(self, origin: str) -> Verifier:
        return Verifier(origin, ED25519, self.public)

    def sign(self, checkpoint: Checkpoint) -> Note:
        text = checkpoint.text()
        verifier = self.verifier(checkpoint.origin)
        return Note(text, (Signature(verifier.name, verifier.key_id, self._key.sign(text.encode())),))


def parse_note(data: str) -> Note:
    """A note from its text. Raises ProofInvalid for what is none."""
    text, blank, rest = data.rpartition("\n\n")
    lines = rest.split("\n")
    if not blank or lines.pop() or not lines or _CONTROL.search(data) or len(data) > MAX_NOTE_CHARS:
        raise ProofInvalid("not a signed note: a text, an empty line, and signature lines")
    if len(lines) > MAX_SIGNATURES:
        raise ProofInvalid(f"a note has {MAX_SIGNATURES} signatures at most")
    return Note(text + "\n", tuple(map(parse_signature, lines)))


def parse_signature(line: str) -> Signature:
    """One signature line, without its newline. Raises ProofInvalid."""
    match = _SIGNATURE.fullmatch(line)
    data = _bytes_of(match["data"]) if match else b""
    if match is None or len(data) <= KEY_ID_BYTES:
        raise ProofInvalid("a signature line is a dash, a name, and the signature in base64")
    return Signature(match["name"], data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


def parse_checkpoint(text: str) -> Checkpoint:
    """Parse the statement of a note's text. Raises ProofInvalid where it is no checkpoint."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines) or not _NUMBER.fullmatch(lines[1]):
        raise ProofInvalid("not a checkpoint: an origin, a size and a root, a line each")
    root = _bytes_of(lines[2])
    if len(root) != HASH_BYTES:
        raise ProofInvalid("a checkpoint's root is a SHA-256 in base64")
    return Checkpoint(lines[0], int(lines[1]), root)


def parse_verifier(text: str) -> Verifier:
    """A verifier key (vkey) from its text. Raises ProofInvalid for what is none, or of a type that we do not know."""
    name, _, rest = text.strip().partition("+")
    key_id, _, key = rest.partition("+")
    data = _bytes_of(key)
    if not name or any(map(str.isspace, name)) or len(data) != 1 + PUBLIC_BYTES or data[0] not in {1, 4}:
        raise ProofInvalid("not a verifier key of type Ed25519: name+hash+key")
    verifier = Verifier(name, data[0], data[1:])
    if verifier.key_id.hex() != key_id:
        raise ProofInvalid("the verifier key's hash is not its own")
    return verifier


def signed_by_any(note: Note, verifiers: Iterable[Verifier]) -> bool:
    return any(verifier.signed(note) for verifier in verifiers)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes_of(text: str) -> bytes:
    """The bytes of standard base64; none for what is not, or is not written the one way there is."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return data if _base64(data) == text else b""
