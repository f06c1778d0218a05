"""Proofs as they are handed out: as values for JSON, and as C2SP writes them.

An inclusion proof in text is a C2SP tlog-proof; its ``extra`` is the leaf, whose hash is what is proved. A consistency
proof in text is the body of C2SP tlog-witness's add-checkpoint request: what a witness wants to see.
"""

from __future__ import annotations

import base64

import msgspec

from ..errors import ProofInvalid
from ..log import merkle
from ..log.base import Connection, RecordedEvent
from ..log.codec import leaf_of, name_at
from ..log.sql.checkpoints import SignedRow, WitnessRow, cosignatures_of, log_names
from ..log.sql.reads import salt_of
from ..log.sql.tree import TILE_HASHES, TILE_LEVELS, Tree, hashes
from .notes import Signature, parse_note

HEADER = "c2sp.org/tlog-proof@v1"


class Inclusion(msgspec.Struct, frozen=True):
    """That an event stands in the log that a checkpoint speaks of. ``index`` is its position less one; hashes are hex,
    from the leaf up. ``leaf`` is the canonical JSON that was hashed. ``salt`` (hex) and ``body_base64`` are what the
    leaf's commitment is over; null where the words were erased.
    """

    origin: str
    position: int
    index: int
    size: int
    leaf: str
    leaf_hash: str
    hashes: tuple[str, ...]
    root: str
    checkpoint: str
    salt: str | None
    body_base64: str | None

    def text(self) -> str:
        """As C2SP tlog-proof."""
        head = [HEADER, f"extra {_base64(self.leaf.encode())}", f"index {self.index}"]
        return "\n".join([*head, *map(_hex_as_base64, self.hashes)]) + "\n\n" + self.checkpoint


class Consistency(msgspec.Struct, frozen=True, rename={"from_size": "from", "to_size": "to"}):
    """That a log of ``to`` events begins with the log of ``from`` events. ``checkpoint`` covers the later one, where
    one was made of just that size.
    """

    origin: str
    from_size: int
    to_size: int
    from_root: str
    to_root: str
    hashes: tuple[str, ...]
    checkpoint: str | None

    def text(self) -> str:
        """As C2SP tlog-witness. Raises ProofInvalid without a checkpoint."""
        if self.checkpoint is None:
            raise ProofInvalid(f"no checkpoint was made of just {self.to_size} events")
        lines = [f"old {self.from_size}", *map(_hex_as_base64, self.hashes)]
        return "\n".join(lines) + "\n\n" + self.checkpoint


def inclusion(connection: Connection, event: RecordedEvent, signed: SignedRow) -> Inclusion:
    """The proof that an event is in the log that a checkpoint covers, as it is stored."""
    leaf = leaf_of(event, name_at(log_names(connection, event.tenant), event.position))
    path = merkle.inclusion_path(event.position - 1, signed.size, Tree(connection, event.tenant))
    salt = salt_of(connection, event.tenant, event.position)
    return Inclusion(
        origin=signed.origin,
        position=event.position,
        index=event.position - 1,
        size=signed.size,
        leaf=leaf.decode(),
        leaf_hash=event.leaf_hash.hex(),
        hashes=tuple(each.hex() for each in path),
        root=signed.root.hex(),
        checkpoint=with_witnesses(connection, signed),
        salt=None if salt is None else salt.hex(),
        body_base64=None if salt is None else _base64(event.body or b""),
    )


def consistency(
    connection: Connection, tenant: str, origin: str, old: int, new: int, signed: SignedRow | None
) -> Consistency:
    """The proof that a log only grew between two sizes that it had."""
    tree = Tree(connection, tenant)
    return Consistency(
        origin=origin,
        from_size=old,
        to_size=new,
        from_root=tree.root(old).hex(),
        to_root=tree.root(new).hex(),
        hashes=tuple(each.hex() for each in merkle.consistency_path(old, new, tree)),
        checkpoint=None if signed is None else with_witnesses(connection, signed),
    )


def tile(connection: Connection, tenant: str, level: int, number: int, size: int, width: int) -> bytes | None:
    """The first ``width`` hashes of a tile (C2SP tlog-tiles) of the tree of ``size`` leaves; None if it has fewer."""
    first = number * TILE_HASHES
    if first + width > size >> TILE_LEVELS * level:
        return None
    return b"".join(hashes(connection, tenant, level, first, first + width))


def with_witnesses(connection: Connection, signed: SignedRow) -> str:
    """A kept checkpoint with the signatures of witnesses below the log's own."""
    note = parse_note(signed.note.decode())
    witnesses = map(signature_of, cosignatures_of(connection, signed.tenant, signed.origin, signed.size))
    return str(msgspec.structs.replace(note, signatures=(*note.signatures, *witnesses)))


def signature_of(witness: WitnessRow) -> Signature:
    return Signature(witness.name, witness.key_id, witness.signature)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _hex_as_base64(text: str) -> str:
    return _base64(bytes.fromhex(text))
