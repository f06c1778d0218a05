"""An event written once can be read for ever: stored bytes of every type at every schema, and what they mean today."""

import json
import re
from datetime import date
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from msgspec import inspect

from manent.engine.clock import new_id
from manent.engine.errors import StoreCorrupt, StoreNewer
from manent.engine.events import upcasts
from manent.engine.events.base import Facts
from manent.engine.events.types import EVENT_TYPES, TURN_ENDS
from manent.engine.events.upcasts import facts_of, meaning_of, upcast, words_of
from manent.engine.log import codec
from manent.engine.log.base import RecordedEvent

GOLDEN = Path(__file__).parents[1] / "golden"
STORED = [stored for file in sorted(GOLDEN.glob("events*.json")) for stored in json.loads(file.read_text("utf-8"))]


stored_events = pytest.mark.parametrize(
    "stored",
    [pytest.param(stored, id=f"{stored['name']}/{stored['schema']}") for stored in STORED],
)


def recorded(kind, schema, facts, body=b""):
    """A stored event of this type."""
    return RecordedEvent(
        tenant="default",
        position=1,
        session=new_id(),
        version=1,
        id=new_id(),
        type=kind,
        schema=schema,
        actor="local",
        recorded_at=0,
        causation=None,
        correlation=None,
        facts=facts,
        length=len(body),
        commitment=b"",
        leaf_hash=b"",
        body=body,
    )


def meaning(value):
    """A value with all its fields, also those that are not written because they are defaults."""
    if isinstance(value, msgspec.Raw):
        return json.loads(bytes(value))
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, UUID | date):
        return str(value)
    if isinstance(value, list | tuple):
        return [meaning(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return {name: meaning(getattr(value, name)) for name in value.__struct_fields__}
    return value


def as_known(value, then):
    """A value of today without the fields that nobody knew then."""
    if not (isinstance(value, dict) and isinstance(then, dict)):
        return value
    return {name: as_known(value[name], known) for name, known in then.items() if name in value}


@stored_events
def test_an_event_written_once_can_be_read_for_ever(stored):
    """Stored facts and body mean what they meant when they were written; fields that came since have their defaults."""
    event = recorded(stored["type"], stored["schema"], stored["facts"].encode(), stored["body"].encode())
    facts, words = meaning(facts_of(event)), meaning(words_of(event))
    assert as_known(facts, stored["facts_mean"]) == stored["facts_mean"]
    if stored["words_mean"] is None:
        assert words is None
    else:
        assert as_known(words, stored["words_mean"]) == stored["words_mean"]


@stored_events
def test_an_event_of_today_is_written_as_it_was(stored):
    """At its newest schema an event gives the same bytes again: a changed order or default would be a new schema."""
    if stored["schema"] != EVENT_TYPES[stored["type"]].schema:
        pytest.skip("an older schema is read, and never written again")
    event = recorded(stored["type"], stored["schema"], stored["facts"].encode(), stored["body"].encode())
    assert codec.canonical(facts_of(event)).decode() == stored["facts"]
    assert codec.encode_body(words_of(event)).decode() == stored["body"]


def test_every_type_at_every_schema_is_among_them():
    """A new event or schema needs its golden bytes, and none is ever taken away."""
    known = {(facts.event_type, schema) for facts in EVENT_TYPES.values() for schema in range(1, facts.schema + 1)}
    assert {(stored["type"], stored["schema"]) for stored in STORED} == known


def test_types_are_named_noun_and_past_participle():
    """Names are public API: our own strings, never class paths; and each belongs to one struct."""
    assert all(re.fullmatch(r"[a-z]+\.[a-z]+ed", name) for name in EVENT_TYPES)
    assert all(facts.event_type == name for name, facts in EVENT_TYPES.items())
    assert set(EVENT_TYPES) >= TURN_ENDS


def kinds_within(kind, seen=()):
    """Every type that a value of this type can hold."""
    yield kind
    if isinstance(kind, inspect.StructType):
        if kind.cls in seen:
            return
        inner, seen = [field.type for field in kind.fields], (*seen, kind.cls)
    elif isinstance(kind, inspect.UnionType):
        inner = kind.types
    elif isinstance(kind, inspect.VarTupleType | inspect.ListType):
        inner = [kind.item_type]
    elif isinstance(kind, inspect.TupleType):
        inner = kind.item_types
    elif isinstance(kind, inspect.DictType):
        inner = [kind.key_type, kind.value_type]
    else:
        inner = []
    for each in inner:
        yield from kinds_within(each, seen)


@pytest.mark.parametrize("facts", EVENT_TYPES.values(), ids=lambda facts: facts.event_type)
def test_facts_hold_nothing_that_has_no_canonical_form(facts):
    """No field of any facts can hold a float, foreign JSON, or bytes: they would be hashed, and never erased."""
    allowed = (
        inspect.StrType,
        inspect.IntType,
        inspect.BoolType,
        inspect.NoneType,
        inspect.UUIDType,
        inspect.DateType,
        inspect.LiteralType,
        inspect.StructType,
        inspect.UnionType,
        inspect.VarTupleType,
    )
    assert [kind for kind in kinds_within(inspect.type_info(facts)) if not isinstance(kind, allowed)] == []


@pytest.mark.parametrize("facts", EVENT_TYPES.values(), ids=lambda facts: facts.event_type)
def test_facts_and_words_are_frozen(facts):
    """Nobody changes an event in memory either; and what a later version adds is passed over."""
    assert issubclass(facts, Facts)
    for kind in filter(None, (facts, facts.words)):
        assert kind.__struct_config__.frozen
        assert not kind.__struct_config__.forbid_unknown_fields


# --- reading what is stored -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "schema"), [("session.started", 99), ("session.abolished", 1), ("", 1)])
def test_what_a_newer_version_wrote_is_not_guessed_at(kind, schema):
    """A type or schema that is not known here is named as such, for facts and words."""
    event = recorded(kind, schema, b"{}")
    for read in (facts_of, words_of):
        with pytest.raises(StoreNewer, match=re.escape(f"{kind}/{schema}")):
            read(event)


@pytest.mark.parametrize("facts", [b"", b"{", b"[]", b"{}", b'{"model":7}', b'{"model":null}'])
def test_facts_of_another_form_are_damage(facts):
    """Facts that are not of their type's shape are reported with their position."""
    with pytest.raises(StoreCorrupt, match="event 1"):
        facts_of(recorded("session.started", 1, facts))


@stored_events
def test_a_decoder_reads_what_facts_of_reads(stored):
    """What a store decodes beforehand is what is decoded when it is asked for."""
    event = recorded(stored["type"], stored["schema"], stored["facts"].encode())
    assert meaning_of(event.type, event.schema, event.facts) == facts_of(event)


@pytest.mark.parametrize(
    ("kind", "schema", "facts"),
    [
        ("session.abolished", 1, b"{}"),
        ("session.started", 99, b'{"model":"echo/echo"}'),
        ("session.started", 1, b"{"),
        ("session.started", 1, b'{"model":7}'),
        ("session.started", 1, b'{"model":"\xff"}'),
        ("session.started", 1, b'{"model":' + b"[" * 100_000),
    ],
)
def test_a_decoder_raises_nothing(kind, schema, facts):
    """What it cannot read it leaves to ``facts_of``, which says why."""
    assert meaning_of(kind, schema, facts) is None


def test_facts_are_decoded_once():
    """An event that has its meaning is not read again."""
    event = recorded("session.archived", 1, b"{}")
    known = facts_of(event)
    assert facts_of(msgspec.structs.replace(event, facts=b"not even JSON", meaning=known)) is known


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"title":7}', b"\xff"])
def test_words_of_another_form_are_damage(body):
    """So are words."""
    with pytest.raises(StoreCorrupt, match="event 1"):
        words_of(recorded("session.started", 1, b'{"model":"echo/echo"}', body))


@pytest.mark.parametrize("body", [b"", None])
def test_words_that_are_not_there_are_none(body):
    """No words, erased words and words that were not read are None; so are those of a type that has none."""
    event = recorded("session.started", 1, b'{"model":"echo/echo"}')
    assert words_of(msgspec.structs.replace(event, body=body)) is None
    assert words_of(recorded("session.archived", 1, b"{}", b"{}")) is None


def test_old_shapes_are_carried_over_step_by_step():
    """Each step takes one schema to the next; a schema without a step is unchanged; stored bytes are not touched."""
    steps = {
        ("x.done", 1): lambda value: {**value, "b": value["a"] + 1},
        ("x.done", 3): lambda value: {"c": value["b"] * 10},
    }
    stored = b'{"a":1}'
    assert upcast(steps, "x.done", 1, 4, stored) == {"c": 20}
    assert upcast(steps, "x.done", 1, 3, stored) == {"a": 1, "b": 2}
    assert upcast(steps, "x.done", 3, 4, b'{"b":2}') == {"c": 20}
    assert upcast(steps, "x.done", 4, 4, stored) == {"a": 1}
    assert upcast(steps, "y.done", 1, 4, stored) == {"a": 1}
    assert stored == b'{"a":1}'


def test_every_step_leads_to_a_schema_that_exists():
    """A step is for a known type, and from a schema below its newest."""
    for kind, schema in (*upcasts.FACTS_STEPS, *upcasts.WORDS_STEPS):
        assert 1 <= schema < EVENT_TYPES[kind].schema
