"""The tables of the log and its scratch. Their history is in ``migrations/``; a test holds the two against each other.

Every key begins with ``tenant``. Ids are 16 bytes. BLOB columns hold bytes as they are hashed: never TEXT, never a
database's own JSON. On SQLite the tables are STRICT (types are checked) and without rowid (rows lie in the order of
their key, and the key is stored once). ``checksum``: see ``store.checksums``.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text, UniqueConstraint

metadata = MetaData()

Int = BigInteger().with_variant(Integer(), "sqlite")

events = Table(
    "events",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("position", Int, primary_key=True, autoincrement=False),
    Column("session", LargeBinary, nullable=False),
    Column("version", Int, nullable=False),
    Column("id", LargeBinary, nullable=False),
    Column("type", Text, nullable=False),
    Column("schema", Int, nullable=False),
    Column("actor", Text, nullable=False),
    Column("recorded_at", Int, nullable=False),
    Column("causation", LargeBinary),
    Column("correlation", Text),
    Column("facts", LargeBinary, nullable=False),
    Column("length", Int, nullable=False),
    Column("commitment", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    UniqueConstraint("tenant", "id", name="events_by_id"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

bodies = Table(
    "bodies",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("position", Int, primary_key=True, autoincrement=False),
    Column("salt", LargeBinary, nullable=False),
    Column("encoding", Int, nullable=False),
    Column("bytes", LargeBinary, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The words, and the salts of their commitments. ``encoding`` says how ``bytes`` are stored; 0 is plain."""

places = Table(
    "places",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("session", LargeBinary, primary_key=True),
    Column("version", Int, primary_key=True, autoincrement=False),
    Column("position", Int, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Derived from ``events``: see ``store.places``."""

erasures = Table(
    "erasures",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("position", Int, primary_key=True, autoincrement=False),
    Column("by_position", Int, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

heads = Table(
    "heads",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("size", Int, nullable=False),
    Column("recorded_at", Int, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""One row per log: locked and updated by every append, so that writers stand in line. ``frontier`` is
``audit.merkle.Frontier`` of that size."""

tiles = Table(
    "tiles",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("level", Int, primary_key=True, autoincrement=False),
    Column("number", Int, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("inner", LargeBinary, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The log's tree, eight levels at a time: see ``store.tree``."""

verifiers = Table(
    "verifiers",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("origin", Text, primary_key=True),
    Column("public", LargeBinary, primary_key=True),
    Column("since_size", Int, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The public keys under which checkpoints were signed, so that those of a key no longer in use can be verified."""

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("origin", Text, primary_key=True),
    Column("size", Int, primary_key=True, autoincrement=False),
    Column("key_id", LargeBinary, primary_key=True),
    Column("root", LargeBinary, nullable=False),
    Column("made_at", Int, nullable=False),
    Column("note", LargeBinary, nullable=False),
    Column("checksum", Int, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Every checkpoint that was made, with the log's own signature."""

cosignatures = Table(
    "cosignatures",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("origin", Text, primary_key=True),
    Column("size", Int, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("key_id", LargeBinary, primary_key=True),
    Column("signature", LargeBinary, nullable=False),
    Column("public", LargeBinary, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""What witnesses signed of our checkpoints; ``public`` is the key's type and the key, as in a verifier key."""

origins = Table(
    "origins",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("from_position", Int, primary_key=True, autoincrement=False),
    Column("origin", Text, primary_key=True),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The log's name in its leaves, from a position on: the last of those that were given at the same position."""

requests = Table(
    "requests",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("principal", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("salt", LargeBinary),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("kind", Text, nullable=False),
    Column("id", LargeBinary, nullable=False),
    Column("version", Int, nullable=False),
    Column("checksum", Int, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""What idempotent requests made, never an answer's words. ``key`` is the keyed hash of the caller's. Primary data, not
a projection."""

secret = Table(
    "secret",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""One row: the id of the secret that keyed hashes are made with. It belongs to the file, not to a log."""

documents = Table(
    "documents",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("bytes", LargeBinary, nullable=False),
    Column("salt", LargeBinary),
    Column("plain", LargeBinary),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""What facts name by a hash and many events share, kept once: sets of tool schemas. ``digest`` is over ``salt`` and
``bytes``, ``plain`` over the bytes alone, to find them again; both are null in those of the old kind, which stay."""

document_uses = Table(
    "document_uses",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("position", Int, primary_key=True, autoincrement=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Derived from ``events``: which of them name a document with a salt, and have their own words."""

erased_documents = Table(
    "erased_documents",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("by_position", Int, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

runs = Table(
    "runs",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("turn", LargeBinary, primary_key=True),
    Column("session", LargeBinary, nullable=False),
    Column("owner", LargeBinary, nullable=False),
    Column("lease_until", Int, nullable=False),
    Column("cancelled_by", Text),
    Column("checksum", Int, nullable=False),
    UniqueConstraint("tenant", "session", name="runs_one_per_session"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Scratch: the turns now open, and the process that runs each."""

journal = Table(
    "journal",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("turn", LargeBinary, primary_key=True),
    Column("frame", Int, primary_key=True, autoincrement=False),
    Column("message", LargeBinary, nullable=False),
    Column("block", Int, nullable=False),
    Column("kind", Text, nullable=False),
    Column("elapsed_ms", Int, nullable=False),
    Column("text", LargeBinary, nullable=False),
    Column("checksum", Int, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Scratch: the frames of the rounds now running, on disk before they are shown."""

purges = Table(
    "purges",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("position", Int, primary_key=True, autoincrement=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Scratch: erasures whose words may still be somewhere in the file's bytes (see ``store.purge``)."""

Index("runs_by_lease", runs.c.lease_until)
Index("requests_by_reference", requests.c.tenant, requests.c.id, requests.c.version)
Index("documents_by_content", documents.c.tenant, documents.c.plain)

GUARDED = (
    *(events, bodies, erasures, origins, documents, erased_documents),
    *(tiles, verifiers, checkpoints, cosignatures),
)
