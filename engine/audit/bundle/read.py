"""Taking a whole log in from a verified bundle: the same events at the same places, with the same hashes.

Words that were erased stay erased. What the bundle does not hold begins anew: idempotency keys, and the signatures of
witnesses. Checkpoints come along and can be verified; the next one is signed by the key of this database.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import islice
from typing import Any
from uuid import UUID

from ...errors import Broken, Refused
from ...log import codec
from ...log.base import Connection, Decoder, Projector, RecordedEvent
from ...log.codec import leaf_of
from ...log.erasure import note_erasures
from ...log.rebuild import BATCH_EVENTS, KEPT_STATES, fold_batch
from ...log.sql.checkpoints import SignedRow, add_origin, keep_checkpoint, log_end
from ...log.sql.documents import SALT_BYTES, SALTED_SINCE, TakenDocument, note_erased_documents
from ...log.sql.rows import write_events
from ...log.sql.session_index import place_events
from ...log.sql.tree import Growing, grow
from ...log.sqlite.schema import Progress
from ...log.transaction import Heads, begin_head, move_head
from . import verify_bundle as format_


def _documents(bundle: format_.Bundle, tenant: str) -> list[TakenDocument]:
    """The documents of a verified bundle, to be kept in a log."""
    taken = []
    for digest, schema in sorted(bundle.named.items()):
        data = bundle.zip.read(format_.DOCUMENT.format(digest))
        if schema < SALTED_SINCE:
            taken.append(TakenDocument(tenant, data))
        else:
            taken.append(TakenDocument(tenant, data[SALT_BYTES:], data[:SALT_BYTES]))
    return taken


def take_in(
    connection: Connection, bundle: format_.Bundle, projector: Projector, made_at: int, progress: Progress
) -> int:
    """Write a log into a database that has none of its tenant; how many events. The bundle is verified by now, and the
    connection in a transaction, to be rolled back after any error.

    Raises Refused where there is such a log already.
    """
    tenant, total = bundle.manifest["tenant"], bundle.manifest["events"]
    if log_end(connection, tenant).last:
        raise Refused(f"the log of {tenant} has begun: a whole log can be taken into an empty one only")
    known, tree = Heads(KEPT_STATES), Growing()
    note_erasures(connection, tenant, [(position, by) for position, (by, *_) in sorted(bundle.erased.items())])
    begin_head(connection, tenant, 0, tree.frontier())
    for batch in _batches(recorded_events(bundle)):
        write_events(connection, batch)
        place_events(connection, tenant, tree.size, tree.size + len(batch))
        grow(connection, tenant, tree, [event.leaf_hash for event, _ in batch])
        # A fork among them reads the history that it shares, and finds it by how far the log has grown.
        move_head(connection, tenant, batch[-1][0].recorded_at, tree.frontier())
        fold_batch(connection, connection, projector, known, [event for event, _ in batch])
        progress(tree.size, total)
    for first, name in bundle.manifest["names"]:
        add_origin(connection, tenant, first, name)
    for document in _documents(bundle, tenant):
        document.apply(connection)
    note_erased_documents(connection, tenant, sorted(bundle.listed.items()))
    _keep_checkpoints(connection, tenant, bundle, made_at)
    return tree.size


def recorded_events(
    bundle: format_.Bundle, decode: Decoder | None = None
) -> Iterator[tuple[RecordedEvent, bytes | None]]:
    """The events of a bundle, each with the salt of its body. Raises Broken for one that has another leaf here."""
    for line in bundle.lines(format_.EVENTS):
        values = format_.parse(line)
        event = _event(values, decode)
        if codec.leaf_hash(leaf_of(event, values["origin"])) != event.leaf_hash:
            raise Broken("the event's leaf is another here", tenant=event.tenant, position=event.position)
        yield event, None if values["salt"] is None else bytes.fromhex(values["salt"])


def _event(values: dict[str, Any], decode: Decoder | None) -> RecordedEvent:
    facts = format_.canonical(values["facts"])
    body = values["body"]
    if body is not None:
        body = body.encode() if isinstance(body, str) else base64.b64decode(body["base64"])
    return RecordedEvent(
        tenant=values["tenant"],
        position=values["position"],
        session=UUID(values["session"]),
        version=values["version"],
        id=UUID(values["id"]),
        type=values["type"],
        schema=values["schema"],
        actor=values["actor"],
        recorded_at=values["recorded_at"],
        causation=None if values["causation"] is None else UUID(values["causation"]),
        correlation=values["correlation"],
        facts=facts,
        length=values["length"],
        commitment=bytes.fromhex(values["commitment"]),
        leaf_hash=format_.leaf_hash(values),
        body=body,
        erased=body is None,
        meaning=decode(values["type"], values["schema"], facts) if decode else None,
    )


def _keep_checkpoints(connection: Connection, tenant: str, bundle: format_.Bundle, made_at: int) -> None:
    lines = bundle.lines(format_.CHECKPOINTS)
    for each, line in zip(bundle.checkpoints, lines, strict=True):
        for key in bundle.keys:
            if (key.name, key.kind) == (each.origin, 1) and key.signed(each.text, each.signatures):
                note = format_.parse(line)["note"].encode()
                row = SignedRow(tenant, each.origin, each.size, key.id, each.root, made_at, note)
                keep_checkpoint(connection, row, key.public)


def _batches(
    events: Iterator[tuple[RecordedEvent, bytes | None]],
) -> Iterator[list[tuple[RecordedEvent, bytes | None]]]:
    while batch := list(islice(events, BATCH_EVENTS)):
        yield batch
