"""What is hashed is hashed for ever: golden vectors, and every leaf against another implementation of RFC 8785."""

import hashlib
import json
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from manent.engine.events.session_types import SessionArchived, SessionWords
from manent.engine.log import codec
from manent.engine.log.base import RecordedEvent

VECTORS = json.loads((Path(__file__).parents[1] / "golden" / "leaves.json").read_text("utf-8"))

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = st.text(st.characters(max_codepoint=127))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
SAFE = st.integers(0, 2**53 - 1)


def leaf_bytes(values):
    """The bytes of a leaf, from its name and the values of an event."""
    columns = RecordedEvent.__struct_fields__[: codec.LEAF_COLUMNS]
    return codec.leaf_bytes(values["origin"], [values[name] for name in columns])


def values_of(vector):
    values = dict(vector["envelope"])
    for name in ("id", "session", "causation"):
        values[name] = UUID(values[name]) if values[name] else None
    values |= {"facts": vector["facts"].encode(), "commitment": bytes.fromhex(vector["commitment"])}
    return values | {"length": len(bytes.fromhex(vector["body"]))}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_leaves_are_what_they_were(vector):
    """Fixed envelope, facts, body and salt give the commitment, leaf bytes and leaf hash that were written down."""
    assert codec.commitment(bytes.fromhex(vector["salt"]), bytes.fromhex(vector["body"])).hex() == vector["commitment"]
    data = leaf_bytes(values_of(vector))
    assert data.decode() == vector["leaf"]
    assert codec.leaf_hash(data).hex() == vector["leaf_hash"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_anybody_can_compute_the_vectors(vector):
    """SHA-256 and an RFC 8785 encoder are enough to get the same hashes."""
    salt, body = bytes.fromhex(vector["salt"]), bytes.fromhex(vector["body"])
    assert hashlib.sha256(salt + body).hexdigest() == vector["commitment"]
    leaf = vector["envelope"] | {"format": "manent/1", "facts": json.loads(vector["facts"])}
    leaf |= {"length": len(body), "commitment": vector["commitment"]}
    if vector["name"] not in {"largest numbers", "attempt.started, all"}:  # the package refuses 2^53 itself
        assert rfc8785.dumps(leaf) == vector["leaf"].encode()
    assert hashlib.sha256(b"\x00" + vector["leaf"].encode()).hexdigest() == vector["leaf_hash"]


def test_every_field_is_always_there():
    """A leaf has the sixteen fields of DESIGN section 4, in order, absent ones as null."""
    fields = json.loads(VECTORS[0]["leaf"])
    names = "format origin tenant position session version id type schema actor recorded_at causation correlation"
    assert list(fields) == sorted([*names.split(), "facts", "length", "commitment"])
    assert fields["causation"] is fields["correlation"] is None


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_facts_are_canonical(facts):
    """Whatever facts may hold is written as the package ``rfc8785`` writes it."""
    assert codec.canonical(facts) == rfc8785.dumps(facts)


@given(
    facts=st.dictionaries(KEYS, VALUES, max_size=3),
    texts=st.lists(TEXT, min_size=5, max_size=5),
    numbers=st.lists(SAFE, min_size=5, max_size=5),
    ids=st.lists(st.uuids(), min_size=3, max_size=3),
    absent=st.booleans(),
)
def test_leaves_are_canonical(facts, texts, numbers, ids, absent):
    """Any envelope with any facts is written as the package ``rfc8785`` writes it."""
    tenant, kind, actor, origin, correlation = texts
    position, version, schema, recorded_at, length = numbers
    envelope = {
        "actor": actor,
        "causation": None if absent else ids[2],
        "correlation": None if absent else correlation,
        "id": ids[0],
        "length": length,
        "origin": origin,
        "position": position,
        "recorded_at": recorded_at,
        "schema": schema,
        "session": ids[1],
        "tenant": tenant,
        "type": kind,
        "version": version,
    }
    leaf = msgspec.to_builtins(envelope) | {"facts": facts, "commitment": "ab" * 32, "format": "manent/1"}
    written = leaf_bytes(envelope | {"facts": codec.canonical(facts), "commitment": b"\xab" * 32})
    assert written == rfc8785.dumps(leaf)


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        0.0,
        -0.0,
        float("nan"),
        2**53 + 1,
        -(2**53) - 1,
        [[{"deep": 1e3}]],
        {"é": 1},
        {"a": {"\U0001f600": 1}},
        {1: "a"},
    ],
    ids=repr,
)
def test_what_has_no_canonical_form_is_refused(value):
    """Floats, integers beyond 2^53 and keys that are not ASCII have no place in facts, however deep."""
    with pytest.raises(ValueError, match=r"canonical|ASCII|cannot hold"):
        codec.canonical({"value": value})


def test_half_characters_are_refused():
    """A half surrogate is no text, in facts or in words."""
    with pytest.raises(UnicodeEncodeError):
        codec.canonical({"a": "\ud83d"})
    with pytest.raises(UnicodeEncodeError):
        codec.encode_body(SessionWords(title="\ud83d"))


def test_no_words_are_no_bytes():
    """An event without words has an empty body, and its commitment is over the salt alone."""
    assert codec.encode_body(None) == b""
    assert codec.commitment(b"s" * 16, b"") == hashlib.sha256(b"s" * 16).digest()


def test_facts_that_are_defaults_are_left_out():
    """What has a default and has it is not written, so a field that is added later changes no old leaf."""
    assert codec.canonical(SessionArchived()) == b"{}"
