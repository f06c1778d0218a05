"""A fork's bundle holds what it shares and proves it, also what was erased of that later; and it is taken in whole."""

import asyncio
import hashlib
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from manent import engine
from manent.engine.audit.bundle import verify_bundle
from manent.engine.audit.notes import Checkpoint, Signer
from manent.engine.log import merkle
from tests.contracts.test_bundles import (
    LOG_TABLES,
    is_caught,
    lines_of,
    opened,
    packed,
    rehashed,
    take,
    verdict,
    with_lines,
)
from tests.support import assert_rebuilds, audit, chatting, dump, offered, query, says, snapshot, text_of

GOLDEN = Path(__file__).parents[1] / "golden"
ECHO = "echo/echo"
FORGER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
GOLDEN_KEY = "manent/01a3185c-5000-7000-8000-000000000003/default+cb177827+AY7JStTOKi3+ueEUy3xm/5VMtesja3MK+QYbUoMzalIL"


async def version_of(chat, session, text):
    return next(each.version for each in (await chat.messages(session, limit=1000)).items if text_of(each) == text)


async def exported(chat, session=None):
    to = io.BytesIO()
    await chat.export(to, session)
    return to.getvalue()


async def record(path):
    """A root, a fork that asks for a tool where it forks, and a fork of that; then words of both parents are erased,
    those that are shared and others, and the reason of one erasure with them.
    """
    asks = says({"text": "Look."}, {"tool": {"id": "call_1", "name": "look", "input": {}}})
    block = b'{"type":"tool_result","tool_use_id":"call_1","content":"Rain."}'
    async with chatting(path, asks=asks) as chat:
        root = await chat.create_session(model=ECHO, title="root", system="Be brief.", max_messages=99)
        for text in ("one", "to be erased", "two"):
            await chat.append_message(root.id, text)
        await chat.pin(root.id, await version_of(chat, root.id, "one"))
        await chat.pin(root.id, await version_of(chat, root.id, "two"))
        asked = await chat.say(root.id, "Ask.", model="scripted/asks", client_tools=offered("look"))
        middle = await chat.fork(root.id, version=asked.message.version, title="middle", max_tokens=5000)
        await chat.append_messages(middle.id, [engine.MessageIn((block,), "tool")])
        await chat.append_message(middle.id, "middle's own")
        await chat.append_message(middle.id, "to be erased, too")
        await chat.update_session(middle.id, legal_hold=True)
        await chat.update_session(middle.id, legal_hold=False)
        await chat.unpin(middle.id, await version_of(chat, root.id, "one"))
        leaf = await chat.fork(middle.id, system=None, metadata={"a": 1})
        await chat.say(leaf.id, "three")
        await chat.append_message(middle.id, "not shared")
        await chat.append_messages(root.id, [engine.MessageIn((block,), "tool"), engine.MessageIn("not shared, too")])
        await chat.erase(
            root.id, "they asked", versions=[await version_of(chat, root.id, each) for each in ("to be erased",)]
        )
        await chat.erase(root.id, "another reason", versions=[(await chat.session(root.id)).version])
        await chat.erase(middle.id, "theirs", versions=[await version_of(chat, middle.id, "to be erased, too")])
        await chat.erase(middle.id, "not here", versions=[await version_of(chat, middle.id, "not shared")])
        await chat.say(leaf.id, "four")
        bundles = {name: await exported(chat, each.id) for name, each in (("leaf", leaf), ("middle", middle))}
        whole, of_root = await exported(chat), await exported(chat, root.id)
        key = (await chat.evidence.keys())[0]
        shown = [each async for each in chat.iter_messages(leaf.id)]
        messages = {form: await joined(chat.export_messages(leaf.id, form)) for form in ("openai", "otel")}
        leaf = await chat.session(leaf.id)
    return SimpleNamespace(
        path=path,
        root=root,
        middle=middle,
        leaf=leaf,
        whole=whole,
        of_root=of_root,
        key=key,
        shown=shown,
        messages=messages,
        **{f"of_{name}": data for name, data in bundles.items()},
    )


async def joined(pieces):
    return json.loads(b"".join([piece async for piece in pieces]))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The family, and what was exported of it."""
    return asyncio.run(record(tmp_path_factory.mktemp("family") / "chat.db"))


def manifest_of(files):
    return json.loads(files["manifest.json"])


def events_of(files):
    return [json.loads(line) for line in lines_of(files, "events.jsonl")]


def with_manifest(files, **changes):
    return files | {"manifest.json": verify_bundle.canonical(manifest_of(files) | changes)}


# --- good bundles -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["of_leaf", "of_middle", "of_root", "whole"])
def test_the_bundles_of_a_family_prove_themselves(tmp_path, made, name):
    """Each is signed by the key, and says what it shares with whom."""
    code, said = verdict(tmp_path, getattr(made, name), made.key)
    assert code == 0, said
    shared = [line for line in said.splitlines() if line.startswith("which shares")]
    parents = {"of_leaf": [made.root, made.middle], "of_middle": [made.root]}.get(name, [])
    ends = [made.middle.parent.version, made.leaf.parent.version]
    assert shared == [
        f"which shares the history of session {parent.id} up to version {end}"
        for parent, end in zip(parents, ends, strict=False)
    ]


def test_a_bundle_of_a_fork_holds_its_lineage_and_what_was_erased_of_it(made):
    """The shared events, its own, and behind them only what erased of these: by positions, with a proof for each."""
    files = opened(made.of_leaf)
    manifest, events = manifest_of(files), events_of(files)
    root, middle, leaf = (str(each.id) for each in (made.root, made.middle, made.leaf))
    ends = {root: made.middle.parent.version, middle: made.leaf.parent.version}
    assert manifest["format"] == "manent-bundle/2"
    assert manifest["lineage"] == [{"session": session, "up_to": end} for session, end in ends.items()]
    late = [each for each in events if each["version"] > ends.get(each["session"], 1 << 53)]
    assert [(each["session"], each["type"]) for each in late] == [
        (root, "body.erased"),
        (root, "body.erased"),
        (middle, "body.erased"),
    ]
    along = [each["version"] for each in events if each not in late]
    assert along == [*range(1, made.leaf.version + 1)]
    assert {each["session"] for each in events} == {root, middle, leaf}
    assert len(lines_of(files, "proofs.jsonl")) == len(events) == manifest["events"]
    assert [each["body"] is None for each in late] == [True, False, False]
    assert "not shared" not in json.dumps(events)


def test_what_has_no_lineage_is_of_the_first_format(made):
    """A session that is no fork, and a whole log: their verifiers of before go on reading them."""
    for data in (made.of_root, made.whole):
        manifest = manifest_of(opened(data))
        assert (manifest["format"], "lineage" in manifest) == ("manent-bundle/1", False)


def test_a_transcript_tells_where_shared_words_stand(made):
    """The headings of shared events name their session, those of its own do not."""
    text = opened(made.of_leaf)["transcript.md"].decode()
    assert f"## {made.root.id} #2 user" in text
    assert f"## #{made.leaf.parent.version + 2} user" in text


async def test_an_erasure_in_a_parent_waits_for_a_checkpoint(tmp_path):
    """What was erased of a fork's history is told in its bundle, or no bundle is made."""
    async with chatting(tmp_path / "chat.db") as chat:
        root = await chat.create_session(model=ECHO)
        await chat.append_message(root.id, "to go")
        fork = await chat.fork(root.id)
        await chat.evidence.checkpoint(new=True)
        await chat.erase(root.id, "asked", versions=[2])
        async with engine.open_beside(str(tmp_path / "chat.db")) as beside:
            with pytest.raises(engine.EngineError, match="no checkpoint"):
                await beside.export(io.BytesIO(), fork.id)
        data = await exported(chat, fork.id)
    code, said = verdict(tmp_path, data)
    assert code == 0, said
    assert "asked" in said


@pytest.mark.parametrize("events", [100, 1100, 2000])
async def test_a_long_lineage_is_exported_in_order(tmp_path, events):
    """Also where parts of it are found by the index of places, and parts are not; and what is erased, everywhere."""
    async with chatting(tmp_path / "chat.db") as chat:
        session = (await chat.create_session(model=ECHO)).id
        versions = []
        for number in range(20):
            await chat.append_messages(session, [engine.MessageIn(f"{number}")] * (events // 20))
            versions.append((session, (await chat.session(session)).version))
            session = (await chat.fork(session)).id
        for owner, version in versions[::3]:
            await chat.erase(owner, "by chance", versions=[version])
        bundle = verify_bundle.verify(io.BytesIO(await exported(chat, session)), [])
        assert len(bundle.gone) == len(versions[::3])
        assert bundle.manifest["events"] == (await chat.session(session)).version + len(versions[::3])
        whole = await exported(chat)
    imported = await asyncio.to_thread(take, tmp_path, whole)
    assert imported.events >= events
    assert_taken(tmp_path, tmp_path / "chat.db")


def test_a_history_is_exported_as_messages(made):
    """In other tools' formats, a fork's messages are those of its whole history, but for units that are erased."""
    said = [each["content"] for each in made.messages["openai"]["messages"]]
    kept = [text_of(each) for each in made.shown if not each.erased and each.role != "tool"]
    assert [each for each in said if each != "Rain."] == kept
    assert len(made.messages["otel"]["gen_ai.input.messages"]) == len(said)
    assert {"one", "two", "middle's own", "three", "four", "Rain."} <= set(said)


# --- tampering --------------------------------------------------------------------------------------------------------


def resigned(files, events, **changes):
    """A bundle of these events that agrees with itself as far as it can: hashed, proved and signed anew by somebody
    who has another key.
    """
    manifest = manifest_of(files)
    size, origin = max(manifest["size"], *(each["position"] for each in events)), manifest["names"][-1][1]
    leaves = [hashlib.sha256(b"%d" % number).digest() for number in range(size)]
    for event in events:
        leaves[event["position"] - 1] = verify_bundle.leaf_hash(event)

    def node(level, number):
        return merkle.Frontier().extend(leaves[number << level : (number + 1) << level]).root()

    paths = [merkle.inclusion_path(event["position"] - 1, size, node) for event in events]
    note = str(FORGER.sign(Checkpoint(origin, size, merkle.Frontier().extend(leaves).root())))
    new = {
        "events.jsonl": events,
        "proofs.jsonl": [[each.hex() for each in path] for path in paths],
        "checkpoints.jsonl": [{"note": note}],
    }
    for name, lines in new.items():
        files = with_lines(files, name, [verify_bundle.canonical(each).decode() for each in lines])
    files = with_lines(files, "keys.txt", [str(FORGER.verifier(origin))])
    named = {each["facts"].get("tools") for each in events if each["type"] == "attempt.started" and each["salt"]}
    documents = {verify_bundle.DOCUMENT.format(digest) for digest in named}
    files = {name: data for name, data in files.items() if not name.startswith("documents/") or name in documents}
    return packed(with_manifest(rehashed(files), events=len(events), size=size, **changes))


def test_what_is_signed_anew_agrees_with_itself(made):
    """The forger of these tests is no bungler: without a change, the bundle is consistent."""
    files = opened(made.of_leaf)
    assert verify_bundle.verify(io.BytesIO(resigned(files, events_of(files))), []).manifest["events"]


def lineages(made):
    """The lineages that are not the one that the events tell."""
    root, middle, leaf = (str(each.id) for each in (made.root, made.middle, made.leaf))
    first, second = made.middle.parent.version, made.leaf.parent.version
    true = [(root, first), (middle, second)]
    return {
        "none": [],
        "the last alone": true[1:],
        "the first alone": true[:1],
        "swapped": true[::-1],
        "twice": [*true, true[1]],
        "with itself": [*true, (leaf, second)],
        "of a stranger": [(str(engine.new_id()), first), true[1]],
        "with a stranger": [(str(engine.new_id()), first), *true],
        **{f"{at} up to {by:+}": shifted(true, at, by) for at in (0, 1) for by in (-1, 1, 2, 1000)},
    }


def shifted(lineage, at, by):
    return [(session, up_to + by * (number == at)) for number, (session, up_to) in enumerate(lineage)]


def test_the_lineage_is_the_one_that_the_events_tell(made):
    """Any other is found: with sessions left out, added or exchanged, and with their parts longer or shorter."""
    files = opened(made.of_leaf)
    for name, lineage in lineages(made).items():
        changed = [{"session": session, "up_to": up_to} for session, up_to in lineage]
        assert is_caught(packed(with_manifest(files, lineage=changed))), name
    true = manifest_of(files)["lineage"]
    for odd in (None, {}, "x", [1], [[]], [true[0] | {"more": 1}, true[1]], [true[0] | {"up_to": "9"}, true[1]]):
        assert is_caught(packed(with_manifest(files, lineage=odd))), odd
    for odd in ("manent-bundle/1", "manent-bundle/3"):
        assert "there is no manifest.json of" in is_caught(packed(with_manifest(files, format=odd)))


def test_another_fork_of_the_family_cannot_be_named(made):
    """A bundle is of the session whose history it holds."""
    files = opened(made.of_leaf)
    for other in (made.root.id, made.middle.id, engine.new_id()):
        assert is_caught(packed(with_manifest(files, session=str(other))))


def test_no_shared_event_can_be_left_out(made):
    """Neither from the middle of a part, nor its end, nor all of it; whatever is signed anew."""
    files = opened(made.of_leaf)
    events, ends = events_of(files), {each["session"]: each["up_to"] for each in manifest_of(files)["lineage"]}
    for number, event in enumerate(events):
        if event["version"] <= ends.get(event["session"], 0):
            said = is_caught(resigned(files, [*events[:number], *events[number + 1 :]]))
            assert said.startswith("position "), said
    for session in ends:
        is_caught(resigned(files, [each for each in events if each["session"] != session]))
        last = {each["session"]: each["version"] for each in events if each["type"] == "body.erased"}
        cut = [each for each in events if each["session"] != session or each["version"] in {1, last[session]}]
        is_caught(resigned(files, cut))


def test_an_erasure_of_shared_words_cannot_be_left_out(made):
    """Then words are gone and nothing says why."""
    files = opened(made.of_leaf)
    events = events_of(files)
    for number, event in enumerate(events):
        if event["type"] == "body.erased":
            said = is_caught(resigned(files, [*events[:number], *events[number + 1 :]]))
            gone = f"position {event['facts']['targets'][0]}: has no body, and no erasure"
            assert said == gone or "the event does not belong here" in said, said  # of an erasure of its reason


def test_nothing_else_of_a_parent_can_be_added(made):
    """What a parent went on with is not the fork's: only what erased of what is shared may follow."""
    files, whole = opened(made.of_leaf), events_of(opened(made.whole))
    events = events_of(files)
    mine, ends = {each["position"] for each in events}, {made.root.id, made.middle.id}
    others = [each for each in whole if each["position"] not in mine and each["session"] in {str(id_) for id_ in ends}]
    assert {each["type"] for each in others} >= {"message.appended", "body.erased"}
    for other in others:
        more = sorted([*events, other], key=lambda each: each["position"])
        said = is_caught(resigned(files, more))
        assert said.startswith(f"position {other['position']}: the event does not belong here"), said


def changed_fork(made, **facts):
    """The events of the leaf's bundle with other facts in the last ``session.forked``; and where that stands."""
    events = events_of(opened(made.of_leaf))
    (number,) = [
        n
        for n, each in enumerate(events)
        if each["type"] == "session.forked" and n and each["session"] == str(made.leaf.id)
    ]
    events[number] = events[number] | {"facts": events[number]["facts"] | facts}
    return events, events[number]["position"]


@pytest.mark.parametrize("change", ["lower", "higher", "root", "stranger", "itself"])
def test_a_fork_cannot_name_another_parent(made, change):
    """Changed facts are another leaf; and signed anew, the lineage does not fit, or the parent has no such version."""
    version = made.leaf.parent.version
    facts = {
        "lower": {"parent_version": version - 1},
        "higher": {"parent_version": version + 1},
        "root": {"parent": str(made.root.id)},
        "stranger": {"parent": str(engine.new_id())},
        "itself": {"parent": str(made.leaf.id)},
    }[change]
    files = opened(made.of_leaf)
    events, position = changed_fork(made, **facts)
    lines = [verify_bundle.canonical(each).decode() for each in events]
    said = is_caught(packed(with_lines(files, "events.jsonl", lines)))
    assert said.startswith(f"position {position}: the event is not the leaf"), said
    is_caught(resigned(files, events))
    lineage = manifest_of(files)["lineage"]
    told = {"session": facts.get("parent", lineage[1]["session"]), "up_to": facts.get("parent_version", version)}
    is_caught(resigned(files, events, lineage=[lineage[0], told]))


def test_a_fork_does_not_stand_before_its_parent(made):
    """Its first event follows the last that it shares, in the same log."""
    files = opened(made.of_leaf)
    events, position = changed_fork(made)
    at = next(number for number, each in enumerate(events) if each["position"] == position)
    before = events[at - 1]
    swapped = [events[at] | {"position": before["position"]}, before | {"position": position}]
    for each, place in zip(swapped, (before, events[at]), strict=True):
        each["recorded_at"] = place["recorded_at"]
    said = is_caught(resigned(files, [*events[: at - 1], *swapped, *events[at + 1 :]]))
    assert said.startswith(f"position {before['position']}: forks version"), said


def test_a_fork_of_another_log_is_none(made):
    """The shared events are of the same log as the fork, or they do not belong to it."""
    files = opened(made.of_leaf)
    for name, value in (("tenant", "other"), ("origin", f"manent/{engine.new_id()}/default")):
        events = [each | ({name: value} if each["session"] == str(made.root.id) else {}) for each in events_of(files)]
        assert "does not belong here" in is_caught(resigned(files, events))


def test_a_whole_log_is_watched_for_forks_of_nothing(made):
    """There, too, a parent has the version, and had it before."""
    files = opened(made.whole)
    events = events_of(files)
    for number, event in enumerate(events):
        if event["type"] != "session.forked":
            continue
        for facts in ({"parent": str(engine.new_id())}, {"parent_version": event["facts"]["parent_version"] + 1}):
            changed = event | {"facts": event["facts"] | facts}
            tampered = with_lines(
                files,
                "events.jsonl",
                [verify_bundle.canonical(each).decode() for each in (*events[:number], changed, *events[number + 1 :])],
            )
            assert is_caught(packed(rehashed(tampered))).startswith(f"position {event['position']}: ")


# --- taking in --------------------------------------------------------------------------------------------------------


def assert_taken(tmp_path, source):
    """A whole log that was taken in is the same, row by row, and its projections are what its events say."""
    taken = tmp_path / "taken.db"
    audit(taken)
    snapshot(source, tmp_path / "source.db")
    for table in (*LOG_TABLES, "forks", "messages", "marks", "session_words", "snapshots", "places"):
        assert dump(taken, [table]) == dump(tmp_path / "source.db", [table]), table
    assert_rebuilds(taken, tmp_path / "scratch.db")
    assert engine.verify_database(str(taken)).problem is None


def test_a_log_with_forks_is_taken_in_whole(tmp_path, made):
    """The same events, forks of forks among them, and what was erased after they were made."""
    take(tmp_path, made.whole)
    assert_taken(tmp_path, made.path)


async def test_a_fork_is_taken_in_as_one_session(tmp_path, made):
    """All that was said along its lineage, in order, as far as it is left; its settings, its pins, and where from."""
    imported = await asyncio.to_thread(take, tmp_path, made.of_leaf)
    async with chatting(tmp_path / "taken.db") as chat:
        session = await chat.session(imported.session_id)
        now = [each async for each in chat.iter_messages(session.id)]
        then = [each for each in made.shown if not each.erased]
        assert [(each.role, each.complete, each.content) for each in now] == [
            (each.role, each.complete, each.content) for each in then
        ]
        assert (
            [text_of(each) for each in now if each.pinned] == [text_of(each) for each in then if each.pinned] == ["two"]
        )
        assert (session.title, session.system, session.model) == ("middle", None, ECHO)
        assert (session.max_messages, session.max_tokens, session.legal_hold, session.status) == (
            None,
            None,
            False,
            "active",
        )
        assert session.metadata.pop("imported_from")["session"] == str(made.leaf.id)
        assert session.metadata == {"a": 1}
        assert session.parent is None
        (first,) = (await chat.events(session.id, limit=1)).items
        source = json.loads(bytes(first.facts))["source"]
        assert (source["session"], source["size"]) == (str(made.leaf.id), manifest_of(opened(made.of_leaf))["size"])
        assert (await chat.say(session.id, "Go on.")).status == "completed"
        assert (await chat.fork(session.id)).message_count == len(now) + 2
    assert query(tmp_path / "taken.db", "SELECT count(*) FROM events WHERE type = 'session.forked'") == [(1,)]
    assert_rebuilds(tmp_path / "taken.db", tmp_path / "scratch.db")
    with pytest.raises(engine.EngineError, match="was imported before"):
        await asyncio.to_thread(take, tmp_path, made.of_leaf)


async def test_a_unit_that_a_fork_parts_is_left_out_whole(tmp_path):
    """A parent's message that asks for a tool is erased, and the fork has the result: neither is taken in."""
    asks = says({"text": "Look."}, {"tool": {"id": "call_1", "name": "look", "input": {}}})
    block = b'{"type":"tool_result","tool_use_id":"call_1","content":"Rain."}'
    async with chatting(tmp_path / "chat.db", asks=asks) as chat:
        root = await chat.create_session(model="scripted/asks")
        asked = await chat.say(root.id, "Ask.", client_tools=offered("look"))
        fork = await chat.fork(root.id, version=asked.message.version)
        await chat.append_messages(fork.id, [engine.MessageIn((block,), "tool")])
        await chat.append_message(fork.id, "And then?")
        await chat.erase(root.id, "x", versions=[asked.message.version])
        data = await exported(chat, fork.id)
    imported = await asyncio.to_thread(take, tmp_path, data)
    async with chatting(tmp_path / "taken.db") as chat:
        assert [text_of(each) async for each in chat.iter_messages(imported.session_id)] == ["Ask.", "And then?"]


async def test_status_and_bounds_of_the_parents_are_theirs(tmp_path):
    """An archived parent that was held and bounded gives an import that is none of that; the fork's own bounds stay."""
    async with chatting(tmp_path / "chat.db") as chat:
        root = await chat.create_session(model=ECHO, max_messages=50, expires_at="2100-01-01T00:00:00Z")
        await chat.append_message(root.id, "said")
        await chat.update_session(root.id, legal_hold=True, budget_tokens=900)
        fork = await chat.fork(root.id, max_tokens=800)
        await chat.update_session(root.id, status="archived")
        await chat.update_session(fork.id, max_messages=70)
        data = await exported(chat, fork.id)
    imported = await asyncio.to_thread(take, tmp_path, data)
    async with chatting(tmp_path / "taken.db") as chat:
        taken = await chat.session(imported.session_id)
        assert (taken.expires_at, taken.legal_hold, taken.status) == (None, False, "active")
        assert (taken.max_messages, taken.max_tokens, taken.budget_tokens) == (70, 800, 900)


# --- bundles of the first format --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["session", "log"])
def test_a_golden_bundle_verifies_as_before(tmp_path, kind):
    """Made before there were forks, with tools, an erased message, and its log's key."""
    data = (GOLDEN / f"bundle-1-{kind}.zip").read_bytes()
    code, said = verdict(tmp_path, data, GOLDEN_KEY)
    assert code == 0, said
    assert 'by local at 37: "they asked"' in said
    lines = lines_of(opened(data), "events.jsonl")
    assert is_caught(packed(with_lines(opened(data), "events.jsonl", lines[:-1])))


def test_a_golden_log_is_taken_in_as_before(tmp_path):
    """Every event at its place, and the head that the old verifier's key signed for."""
    data = (GOLDEN / "bundle-1-log.zip").read_bytes()
    imported = take(tmp_path, data)
    assert imported.events == audit(tmp_path / "taken.db") == manifest_of(opened(data))["size"]
    assert_rebuilds(tmp_path / "taken.db", tmp_path / "scratch.db")
    assert engine.verify_database(str(tmp_path / "taken.db")).problem is None


async def test_a_golden_session_is_taken_in_as_before(tmp_path):
    """Its messages but for the erased one, its settings, and what was pinned."""
    imported = await asyncio.to_thread(take, tmp_path, (GOLDEN / "bundle-1-session.zip").read_bytes())
    async with chatting(tmp_path / "taken.db") as chat:
        session = await chat.session(imported.session_id)
        said = [(each.role, text_of(each), each.pinned) async for each in chat.iter_messages(session.id)]
    assert (session.title, session.system) == ("Another title", "Be brief.")
    assert said == [
        ("user", "Hello.", True),
        ("assistant", "An answer. ", False),
        ("user", "Break.", False),
        ("assistant", "I brea", False),
        ("user", "Ask.", False),
        ("assistant", "Look.", False),
        ("tool", "", False),
        ("user", "The end.", False),
        ("assistant", "An answer. ", False),
    ]
