"""Writing bundles: a session, or a whole log, as one file that anybody can verify. FORMAT.md says what is in it.

A bundle is read from one snapshot, in as many passes as it has files, so that memory does not grow with it. The same
record under the same checkpoint gives the same bytes: the zip holds no time and no name of anybody's machine.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from uuid import UUID
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from ...log.base import Connection
from ...log.codec import leaf_of, name_at
from ...log.merkle import inclusion_path
from ...log.sql.checkpoints import SignedRow, all_checkpoints, log_names, public_keys
from ...log.sql.documents import SALTED_SINCE, find_document, named_by
from ...log.sql.exported import Exported, Salted, leaf_hashes, salted_events
from ...log.sql.tree import Tree
from ..notes import ED25519, Verifier
from ..proof import with_witnesses
from . import verify_bundle as format_

HERE = Path(__file__).parent
VERIFIER, DESCRIPTION = "verify_bundle.py", "FORMAT.md"
NO_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip can tell."""

CHUNK_BYTES = 1 << 16
IN_MEMORY_BYTES = 8 << 20
"""What is more waits in a file without a name, which the system frees with its last byte."""

PROOFS_PER_TREE, NODES = 1000, 1 << 16
"""A tree keeps the tiles that it has read; after so many proofs it is let go, and so many nodes stay."""

Names = list[tuple[int, str]]


def write_bundle(connection: Connection, exported: Exported, signed: SignedRow, to: IO[bytes]) -> int:
    """Write the bundle of a session's history, or of a whole log, as far as a checkpoint covers it; how many events it
    has. ``to`` need not be seekable.
    """
    tenant, session = exported.tenant, exported.session
    names = log_names(connection, tenant)
    events = partial(_events, connection, exported, signed.size, names)
    leaves = partial(leaf_hashes, connection, exported, signed.size)
    checkpoints = [signed] if session is not None else _checkpoints(connection, signed, names)
    with ZipFile(to, "w", ZIP_DEFLATED) as archive:
        files = _Files(archive)
        files.add(DESCRIPTION, [(HERE / DESCRIPTION).read_bytes()])
        files.add(VERIFIER, [(HERE / VERIFIER).read_bytes()])
        files.add(format_.KEYS, _keys(connection, checkpoints))
        files.add(format_.CHECKPOINTS, (_checkpoint_line(connection, each) for each in checkpoints))
        named = set[str]()
        count = files.add(format_.EVENTS, (format_.canonical(event) + b"\n" for event in _naming(events(), named)))
        files.add(format_.LEAVES, (f"{position} {leaf.hex()}\n".encode() for position, leaf in leaves()))
        if session is not None:
            files.add(format_.PROOFS, _proofs(connection, (position for position, _ in leaves()), signed))
        for digest in sorted(named):
            files.add(format_.DOCUMENT.format(digest), [_document(connection, tenant, digest)])
        markdown, page = format_.TRANSCRIPTS
        with SpooledTemporaryFile(IN_MEMORY_BYTES) as beside:
            files.add(markdown, _transcript(events(), beside, session))
            beside.seek(0)
            files.add(page, iter(partial(beside.read, CHUNK_BYTES), b""))
        files.add(format_.MANIFEST, [format_.canonical(_manifest(exported, names, signed, count, files.digests))])
    return count


def _manifest(exported: Exported, names: Names, signed: SignedRow, count: int, digests: dict[str, str]) -> object:
    """What has no lineage is written in the first format, so that verifiers of that one go on reading it."""
    session, shared = exported.session, exported.stretches[:-1]
    lineage = [{"session": str(each.session), "up_to": each.up_to} for each in shared]
    return {
        "events": count,
        "files": dict(digests),
        "format": format_.OF_FORKS if lineage else format_.FORMAT,
        "kind": "log" if session is None else "session",
        "names": names,
        "session": None if session is None else str(session),
        "size": signed.size,
        "tenant": exported.tenant,
    } | ({"lineage": lineage} if lineage else {})


class _Files:
    """The files of a bundle as they are written, and their digests."""

    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        self.digests: dict[str, str] = {}

    def add(self, name: str, pieces: Iterable[bytes]) -> int:
        """Write a file; how many pieces it was made of."""
        info = ZipInfo(name, NO_TIME)
        info.compress_type, info.create_system, info.external_attr = ZIP_DEFLATED, 3, 0o644 << 16
        digest, waiting, size, count = hashlib.sha256(), list[bytes](), 0, 0
        with self._archive.open(info, "w", force_zip64=True) as file:
            for count, piece in enumerate(pieces, 1):  # noqa: B007 - the last count is the answer
                digest.update(piece)
                waiting.append(piece)
                size += len(piece)
                if size >= CHUNK_BYTES:
                    file.write(b"".join(waiting))
                    waiting, size = [], 0
            file.write(b"".join(waiting))
        self.digests[name] = digest.hexdigest()
        return count


def _events(connection: Connection, exported: Exported, up_to: int, names: Names) -> Iterator[dict[str, Any]]:
    for each in salted_events(connection, exported, up_to):
        yield event_line(each, name_at(names, each.event.position))


def _naming(events: Iterable[dict[str, Any]], named: set[str]) -> Iterator[dict[str, Any]]:
    """The events, while the digests of the documents that they name are gathered: of those that go with an event's
    words, if these are here.
    """
    for event in events:
        digest = named_by(event["type"], event["facts"])
        if digest is not None and (event["body"] is not None or event["schema"] < SALTED_SINCE):
            named.add(digest)
        yield event


def _document(connection: Connection, tenant: str, digest: str) -> bytes:
    """The bytes whose hash a document's name is: its salt, if it has one, stands before it."""
    found = find_document(connection, tenant, digest)
    return (found.salt or b"") + found.data


def event_line(salted: Salted, origin: str) -> dict[str, Any]:
    """A line of ``events.jsonl``: the leaf's members, and salt and body, which are null where they are erased."""
    line: dict[str, Any] = json.loads(leaf_of(salted.event, origin))
    line["salt"] = None if salted.salt is None else salted.salt.hex()
    line["body"] = _text(salted.event.body)
    return line


def _text(body: bytes | None) -> str | dict[str, str] | None:
    if body is None:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:  # what a vendor sent may not be text
        return {"base64": base64.b64encode(body).decode()}


def _words(body: str | dict[str, str] | None) -> dict[str, Any]:
    """As the verifier reads them."""
    if body is None:
        return {}
    text = body if isinstance(body, str) else base64.b64decode(body["base64"]).decode(errors="replace")
    words: dict[str, Any] = json.loads(text or "{}")
    return words


def _checkpoints(connection: Connection, signed: SignedRow, names: Names) -> list[SignedRow]:
    """All that a log's checkpoints say of what it still is, the one that covers the bundle last."""
    ends = {name: first - 1 for (_, name), (first, _) in pairwise(names)}
    kept = [
        each
        for each in all_checkpoints(connection, signed.tenant)
        if each != signed and each.size <= min(signed.size, ends.get(each.origin, signed.size))
    ]
    return [*kept, signed]


def _checkpoint_line(connection: Connection, signed: SignedRow) -> bytes:
    return format_.canonical({"note": with_witnesses(connection, signed)}) + b"\n"


def _keys(connection: Connection, checkpoints: Iterable[SignedRow]) -> Iterator[bytes]:
    for tenant, origin in dict.fromkeys((each.tenant, each.origin) for each in checkpoints):
        for public in public_keys(connection, tenant, origin):
            yield f"{Verifier(origin, ED25519, public)}\n".encode()


def _proofs(connection: Connection, positions: Iterable[int], signed: SignedRow) -> Iterator[bytes]:
    tree = Tree(connection, signed.tenant)

    @lru_cache(NODES)
    def node(level: int, index: int) -> bytes:
        return tree(level, index)

    for number, position in enumerate(positions, 1):
        path = inclusion_path(position - 1, signed.size, node)
        yield format_.canonical([each.hex() for each in path]) + b"\n"
        if number % PROOFS_PER_TREE == 0:
            tree = Tree(connection, signed.tenant)


def _transcript(events: Iterable[dict[str, Any]], beside: IO[bytes], session: UUID | None) -> Iterator[bytes]:
    """The transcript in Markdown, while the page is written beside. Events of other sessions name theirs."""
    own = None if session is None else str(session)
    pieces = format_.TRANSCRIPT_HEAD
    for event in events:
        beside.write(pieces[1].encode())
        yield pieces[0].encode()
        elsewhere = event["session"] != own
        pieces = format_.transcript_of(event, _words(event["body"]), with_session=elsewhere)
    for last in (pieces, format_.TRANSCRIPT_TAIL):
        beside.write(last[1].encode())
        yield last[0].encode()
