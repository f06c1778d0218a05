"""What is exported proves itself, every change to it is found, and it can be taken in again."""

import asyncio
import base64
import gzip
import hashlib
import io
import json
import random
import subprocess
import sys
import zipfile
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from manent import engine
from manent.engine.audit.bundle import verify_bundle
from manent.engine.audit.notes import COSIGNATURE, ED25519, Checkpoint, Signer, Verifier
from manent.engine.errors import Broken, CheckpointNotFound, Invalid, Refused, SessionNotFound
from manent.engine.events.turn_types import AttemptEnded
from manent.engine.log import codec
from manent.engine.log.base import AnyVersion, Append, NewEvent
from manent.engine.service import export
from manent.engine.settings import Settings
from tests.support import Dictated, assert_rebuilds, audit, begin, chatting, dump, query, says, shown, snapshot, text_of

GOLDEN = Path(__file__).parents[1] / "golden"

ECHO = "echo/echo"
LOG_TABLES = ("events", "bodies", "erasures", "documents", "erased_documents", "heads", "origins", "tiles")
LOOK, CALL = (engine.ToolSchema(name, "A tool.", {"type": "object", "properties": {}}) for name in ("look", "call"))
NASTY = '<script>alert(1)</script>\r\n\u202eabc\x1b[31m & "quotes" ![x](http://example.com/x.png)'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


async def record(path):
    """A log with a little of everything: two sessions, turns of all kinds, an erasure."""
    models = {
        "talk": says({"thinking": "Hm."}, {"text": "An answer. ", "chunk_chars": 3}),
        "fails": says({"text": "I brea"}, {"fail": {"code": "provider_rejected", "detail": "no"}}),
        "asks": says({"text": "Look."}, {"tool": {"id": "call_1", "name": "look", "input": {"city": "Rome"}}}),
    }
    async with chatting(path, **models) as chat:
        session = await chat.create_session(model="scripted/talk", title=NASTY, system="Be brief.", metadata={"a": [1]})
        other = await chat.create_session(model=ECHO)
        await chat.say(session.id, NASTY)
        await chat.say(other.id, "Elsewhere.")
        await chat.evidence.checkpoint(new=True)
        await chat.say(session.id, "Break.", model="scripted/fails")
        await chat.ended(await begin(chat, session.id, "Ask.", model="scripted/asks", client_tools=(LOOK,)))
        await chat.ended(await begin(chat, other.id, "Ask.", model=ECHO, client_tools=(CALL,)))
        block = b'{"type":"tool_result","tool_use_id":"call_1","content":"Rain."}'
        await chat.append_messages(session.id, [engine.MessageIn((block,), "tool")])
        await chat.append_message(session.id, "To be erased.")
        await chat.erase(session.id, "they asked", versions=[(await chat.session(session.id)).version])
        await chat.say(session.id, "The end.", model="scripted/talk")
        await chat.update_session(session.id, title="Another title")
        one, whole = io.BytesIO(), io.BytesIO()
        await chat.export(one, session.id)
        await chat.export(whole)
        key = (await chat.evidence.keys())[0]
    return SimpleNamespace(
        path=path, session=session.id, other=other.id, one=one.getvalue(), whole=whole.getvalue(), key=key
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The log, its session's bundle, and its own; recorded once."""
    return asyncio.run(record(tmp_path_factory.mktemp("bundles") / "chat.db"))


def bundle_of(made, kind):
    return made.one if kind == "session" else made.whole


def opened(data):
    """The files of a bundle."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def documents_of(files):
    return {name: data for name, data in files.items() if name.startswith("documents/")}


def packed(files, *, new_manifest=True):
    """A bundle of these files; its manifest names what they are now, as a careful forger's would."""
    files = dict(files)
    if new_manifest and "manifest.json" in files:
        manifest = json.loads(files["manifest.json"])
        manifest["files"] = {name: hashlib.sha256(files[name]).hexdigest() for name in files if name != "manifest.json"}
        files["manifest.json"] = verify_bundle.canonical(manifest)
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return to.getvalue()


def verdict(tmp_path, data, *keys):
    """What the verifier says of it in a process of its own, isolated from this one's libraries: exit code and words."""
    file = tmp_path / "bundle.zip"
    file.write_bytes(data)
    options = [option for key in keys for option in ("--key", key)]
    command = [sys.executable, "-I", "-S", verify_bundle.__file__, str(file), *options]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=60)
    return result.returncode, result.stdout + result.stderr


def is_caught(data, *keys):
    """Whether the verifier finds it broken, as a caller in this process is told; gives what it says."""
    with pytest.raises(verify_bundle.Broken) as broken:
        verify_bundle.verify(io.BytesIO(data), [verify_bundle.Key(key) for key in keys])
    return str(broken.value)


# --- good bundles -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["session", "log"])
def test_a_bundle_proves_itself(tmp_path, made, kind):
    """The verifier, alone, finds it consistent and signed by the key, and tells what is erased and why."""
    code, said = verdict(tmp_path, bundle_of(made, kind), made.key)
    assert code == 0, said
    first, second, third = said.splitlines()
    assert first == f"consistent, signed by {made.key}"
    assert second.startswith(f"{'whole log' if kind == 'log' else f'session {made.session}'} of default, ")
    assert third.startswith("erased: ")
    assert "by local at " in third
    assert third.endswith(': "they asked"')


@pytest.mark.parametrize("kind", ["session", "log"])
def test_without_a_key_nobody_has_signed(tmp_path, made, kind):
    """The first line says that no key was checked; the bundle's own is shown to be compared, and called no more."""
    code, said = verdict(tmp_path, bundle_of(made, kind))
    first, *_, before, last = said.splitlines()
    assert code == 0
    assert first.startswith("consistent, signer not checked: nobody's key was checked")
    assert "proves nothing" in before
    assert last == f"  {made.key}"
    assert "signed by" not in said


@pytest.mark.parametrize("kind", ["session", "log"])
def test_a_key_that_signed_nothing_is_not_told_of(tmp_path, made, kind):
    """A key in the bundle that did not sign the last checkpoint is named nowhere, in whatever place it stands; with
    --key it makes the bundle broken.
    """
    origin, files = made.key.partition("+")[0], opened(bundle_of(made, kind))
    stranger = str(Signer(Ed25519PrivateKey.from_private_bytes(bytes(32))).verifier(origin))
    for keys in ([stranger, made.key], [made.key, stranger], [stranger, made.key, stranger]):
        code, said = verdict(tmp_path, packed(with_lines(files, "keys.txt", keys)))
        assert (code, said.splitlines()[-1]) == (0, f"  {made.key}")
        assert stranger not in said
        assert "no good signature by" in is_caught(packed(with_lines(files, "keys.txt", keys)), stranger)


def cosigned(files, *witnesses):
    """The bundle with these witnesses' signatures below its last checkpoint: (name, private key, what it signs)."""
    *before, last = lines_of(files, "checkpoints.jsonl")
    note = json.loads(last)["note"]
    text, time = note.rpartition("\n\n")[0] + "\n", 1_800_000_000
    for name, key, said in witnesses:
        verifier = Verifier(name, COSIGNATURE, key.public_key().public_bytes_raw())
        signature = key.sign(f"cosignature/v1\ntime {time}\n{said or text}".encode())
        data = base64.b64encode(verifier.key_id + time.to_bytes(8, "big") + signature).decode()
        note += f"\u2014 {name} {data}\n"
    return with_lines(files, "checkpoints.jsonl", [*before, verify_bundle.canonical({"note": note}).decode()])


def test_witnesses_count_where_their_keys_are_given(tmp_path, made):
    """Each witness given counts once, if it signed; the others are said to have cosigned, and nobody has looked."""
    one, two = (Ed25519PrivateKey.from_private_bytes(bytes(31) + bytes([n])) for n in (1, 2))
    keys = [
        str(Verifier(f"w{n}", COSIGNATURE, key.public_key().public_bytes_raw())) for n, key in enumerate((one, two))
    ]
    absent = str(Verifier("w3", COSIGNATURE, bytes(32)))
    data = packed(cosigned(opened(made.one), ("w0", one, None), ("w1", two, None)))

    def first(*options):
        file = tmp_path / "bundle.zip"
        file.write_bytes(data)
        with redirect_stdout(io.StringIO()) as said:
            assert verify_bundle.main([str(file), *options]) == 0
        return said.getvalue().splitlines()[0]

    signed = f"consistent, signed by {made.key}"
    key, witnesses = ("--key", made.key), [("--witness", each) for each in keys]
    assert first(*key) == f"{signed}, cosigned, witnesses not checked"
    assert first(*key, *witnesses[0]) == f"{signed}, witnessed by 1, cosigned by 1 more, witnesses not checked"
    assert first(*key, *witnesses[0], *witnesses[1]) == f"{signed}, witnessed by 2"
    assert first(*key, *witnesses[0], *witnesses[0], *witnesses[1]) == f"{signed}, witnessed by 2"
    assert first(*key, "--witness", absent).startswith(f"{signed}, witnessed by 0 of 1 given, cosigned by 2 more")
    assert first(*witnesses[1]).startswith("consistent, signer not checked, witnessed by 1, cosigned by 1 more, ")
    bad = packed(cosigned(opened(made.one), ("w0", one, "another text")))
    with pytest.raises(verify_bundle.Broken, match="no good signature by"):
        verify_bundle.verify(io.BytesIO(bad), [], [verify_bundle.Key(keys[0])])


def test_the_verifier_in_a_bundle_is_the_one_beside_it(made):
    """And so is the page that describes it."""
    files = opened(made.one)
    for name in ("verify_bundle.py", "FORMAT.md"):
        assert files[name] == Path(verify_bundle.__file__).with_name(name).read_bytes()


def test_wrong_use_is_told_apart(tmp_path):
    """No file, or a key that is none or of the other kind: exit code 2; a file that is no bundle: 1."""
    command = [sys.executable, "-I", verify_bundle.__file__]
    witness = str(Verifier("w", COSIGNATURE, bytes(32)))
    log = str(Verifier("w", ED25519, bytes(32)))
    for arguments in (
        [],
        [str(tmp_path / "missing.zip")],
        ["a", "--key", "nonsense"],
        ["a", "--key", witness],
        ["a", "--witness", log],
    ):
        assert subprocess.run([*command, *arguments], capture_output=True, check=False).returncode == 2
    assert verdict(tmp_path, b"no zip")[0] == 1
    assert verdict(tmp_path, b"")[0] == 1


def test_another_key_is_not_enough(tmp_path, made):
    """With --key the checkpoint must be signed by that key."""
    public = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    for name in ("elsewhere", made.key.partition("+")[0]):
        assert "no good signature by" in is_caught(made.one, str(Verifier(name, ED25519, public)))


def test_what_is_in_a_bundle(made):
    """A session's has its own events and proofs for them; a log's has all, and every checkpoint, and needs no proof."""
    one, whole = opened(made.one), opened(made.whole)
    assert one.keys() - whole.keys() == {"proofs.jsonl"}
    assert [len(documents_of(files)) for files in (one, whole)] == [1, 2]
    ((name, data),) = documents_of(one).items()
    assert name == f"documents/{hashlib.sha256(data).hexdigest()}.json"
    assert [tool["name"] for tool in json.loads(data[16:])] == [LOOK.name]
    sessions = {json.loads(line)["session"] for line in one["events.jsonl"].splitlines()}
    assert sessions == {str(made.session)}
    assert len(whole["checkpoints.jsonl"].splitlines()) == 2
    assert len(one["checkpoints.jsonl"].splitlines()) == 1
    assert json.loads(whole["manifest.json"])["events"] == len(whole["events.jsonl"].splitlines())


def test_a_transcript_can_be_read_and_runs_nothing(made):
    """Words are there, markup is text, and what is erased says so."""
    files = opened(made.one)
    page, text = files["transcript.html"].decode(), files["transcript.md"].decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page
    assert "An answer. " in text
    assert "[erased]" in text
    assert "they asked" in text
    assert "To be erased" not in page + text
    assert "\u202e" not in page + text
    assert "\x1b" not in page + text


async def test_the_same_record_gives_the_same_bytes(path):
    """An export holds nothing of the moment or the machine at which it was made."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        await chat.say(session.id, "x")
        exports = []
        for _ in range(2):
            exports.append(io.BytesIO())
            await chat.export(exports[-1], session.id)
        assert exports[0].getvalue() == exports[1].getvalue()
        assert {info.date_time for info in zipfile.ZipFile(exports[0]).infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("kind", ["session", "log"])
async def test_an_erasure_that_no_checkpoint_covers_yet_is_not_left_out(path, tmp_path, kind):
    """Words that are gone, and no word of why, would look like damage: beside a server such an export is refused until
    the next checkpoint; and where words go while the export is made, another checkpoint is.
    """
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        await chat.append_message(session.id, "to go")
        await chat.append_message(session.id, "to go later")
        await chat.evidence.checkpoint(new=True)
        exported = None if kind == "log" else session.id
        await chat.erase(session.id, "asked", versions=[2])
        async with engine.open_beside(str(path)) as beside:
            to = io.BytesIO()
            with pytest.raises(CheckpointNotFound):
                await beside.export(to, exported)
            assert to.getvalue() == b""
            await chat.evidence.checkpoint(new=True)
            await beside.export(to, exported)
            assert verdict(tmp_path, to.getvalue())[0] == 0
        read = chat._parts.store.read

        async def erase_first(work):
            if getattr(work, "func", None) is export._write:
                chat._parts.store.read = read
                await chat.erase(session.id, "asked again", versions=[3])
            return await read(work)

        chat._parts.store.read = erase_first
        to = io.BytesIO()
        await chat.export(to, exported)
    code, said = verdict(tmp_path, to.getvalue())
    assert code == 0, said
    assert "asked again" in said


class Unseekable(io.RawIOBase):
    """A pipe."""

    def __init__(self):
        self.data = b""

    def writable(self):
        return True

    def write(self, data):
        self.data += bytes(data)
        return len(data)


async def test_a_bundle_can_be_written_to_a_pipe(path, tmp_path):
    """It is written from front to back."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        pipe = Unseekable()
        await chat.export(pipe, session.id)
    assert verdict(tmp_path, pipe.data)[0] == 0


async def test_a_session_that_moves_on_is_exported_as_far_as_it_is_signed_for(path, tmp_path):
    """Beside a server, which alone can sign, what no checkpoint covers is refused; what one covers is given."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        await chat.append_message(session.id, "signed for")
        await chat.evidence.checkpoint(new=True)
        async with engine.open_beside(str(path)) as beside:
            to = io.BytesIO()
            assert await beside.export(to, session.id) == 2
            await chat.append_message(session.id, "not yet")
            with pytest.raises(CheckpointNotFound):
                await beside.export(io.BytesIO(), session.id)
            assert await beside.export(io.BytesIO()) == 2
    assert verdict(tmp_path, to.getvalue())[0] == 0


async def test_what_is_not_there_is_not_exported(path):
    """No session, or another tenant's: not found; a log that has not begun has no checkpoint."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        acme = engine.Caller("acme")
        for wrong, caller in ((engine.new_id(), engine.LOCAL), (session.id, acme)):
            with pytest.raises(SessionNotFound):
                await chat.export(io.BytesIO(), wrong, caller=caller)
        with pytest.raises(CheckpointNotFound):
            await chat.export(io.BytesIO(), None, caller=acme)


async def test_bodies_that_are_no_text_are_kept(path, tmp_path):
    """A vendor may send bytes that are not UTF-8; they are exported in base64, and prove as they are."""
    facts = AttemptEnded(turn=engine.new_id(), round=1, attempt=1, outcome="completed")
    odd = NewEvent(engine.new_id(), facts.event_type, 1, codec.canonical(facts), "local", b'{"upstream":"\xff"}')
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        await chat._parts.store.append(Append("default", session.id, AnyVersion(), [odd]))
        one, whole = io.BytesIO(), io.BytesIO()
        await chat.export(one, session.id)
        await chat.export(whole)
    assert json.loads(lines_of(opened(one.getvalue()), "events.jsonl")[1])["body"].keys() == {"base64"}
    assert verdict(tmp_path, one.getvalue())[0] == 0
    await asyncio.to_thread(take, tmp_path, whole.getvalue())
    assert query(tmp_path / "taken.db", "SELECT bytes FROM bodies WHERE position = 2") == [(odd.body,)]


# --- tampering --------------------------------------------------------------------------------------------------------


def lines_of(files, name):
    return files[name].decode().split("\n")[:-1]


def with_lines(files, name, lines):
    return files | {name: "".join(f"{line}\n" for line in lines).encode()}


def changed_value(value, random_):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + random_.choice([-1, 1, 1000])
    if isinstance(value, str) and value:
        at = random_.randrange(len(value))
        other = "0" if value[at] != "0" else "1"
        return value[:at] + other + value[at + 1 :]
    if isinstance(value, str) or value is None:
        return "x"
    if isinstance(value, list):
        return [*value[:-1], changed_value(value[-1], random_)] if value else ["x"]
    if value:
        name = random_.choice(sorted(value))
        return value | {name: changed_value(value[name], random_)}
    return {"x": 1}


@pytest.mark.parametrize("kind", ["session", "log"])
@pytest.mark.parametrize("name", verify_bundle.EVENT_FIELDS)
def test_every_field_of_every_event_is_watched(tmp_path, made, kind, name):
    """A change of a field of the first, a middle or the last event is found, and its position named; with leaves,
    transcripts and manifest made anew, and without.
    """
    random_, files = random.Random(f"{kind}{name}"), opened(bundle_of(made, kind))
    lines = lines_of(files, "events.jsonl")
    for number in {0, len(lines) // 2, len(lines) - 1, *random_.sample(range(len(lines)), 5)}:
        event = json.loads(lines[number])
        other = event | {name: changed_value(event[name], random_)}
        new = [*lines[:number], verify_bundle.canonical(other).decode(), *lines[number + 1 :]]
        tampered = with_lines(files, "events.jsonl", new)
        said = is_caught(packed(tampered))
        if name != "position":
            assert said.startswith(f"position {event['position']}: "), said
        is_caught(packed(rehashed(tampered)))
        is_caught(packed(tampered, new_manifest=False))


def rehashed(files):
    """Leaves and transcripts made anew from the events: what somebody does who knows the format."""
    events = [json.loads(line) for line in lines_of(files, "events.jsonl")]
    try:
        leaves = [f"{event['position']} {verify_bundle.leaf_hash(event).hex()}" for event in events]
        pieces = [verify_bundle.TRANSCRIPT_HEAD]
        session = json.loads(files["manifest.json"])["session"]
        for event in events:
            words, elsewhere = json.loads(event["body"] or "{}"), event["session"] != session
            pieces.append(verify_bundle.transcript_of(event, words, with_session=elsewhere))
        pieces.append(verify_bundle.TRANSCRIPT_TAIL)
    except (ValueError, TypeError, LookupError, AttributeError):
        return files
    made = {
        name: "".join(piece[number] for piece in pieces).encode()
        for number, name in enumerate(verify_bundle.TRANSCRIPTS)
    }
    return with_lines(files, "leaves.txt", leaves) | made


@pytest.mark.parametrize("kind", ["session", "log"])
def test_the_words_of_a_transcript_are_watched(tmp_path, made, kind):
    """One letter of it changed, anywhere, with the manifest made anew: it is not what the events say."""
    files, random_ = opened(bundle_of(made, kind)), random.Random(kind)
    for name in verify_bundle.TRANSCRIPTS:
        for at in (0, len(files[name]) - 1, *(random_.randrange(len(files[name])) for _ in range(20))):
            data = bytearray(files[name])
            data[at] ^= 1
            assert "is not what the events say" in is_caught(packed(files | {name: bytes(data)}))


@pytest.mark.parametrize("kind", ["session", "log"])
def test_no_bit_of_any_file_can_change(tmp_path, made, kind):
    """A flipped bit anywhere in any file is found, whether or not the manifest is made anew, but for the pages that
    nobody is convinced by: verifier and description, of which the manifest tells.
    """
    files, random_ = opened(bundle_of(made, kind)), random.Random(kind)
    for name, data in files.items():
        for at in {0, len(data) - 1, *(random_.randrange(len(data)) for _ in range(12))}:
            changed = data[:at] + bytes([data[at] ^ 1 << random_.randrange(8)]) + data[at + 1 :]
            is_caught(packed(files | {name: changed}, new_manifest=False))
            if name not in {"verify_bundle.py", "FORMAT.md", "manifest.json"}:
                assert is_caught(packed(files | {name: changed})), (name, at)


@pytest.mark.parametrize("kind", ["session", "log"])
def test_no_byte_of_the_zip_makes_it_lie(tmp_path, made, kind):
    """A flipped bit of the file itself is found, or changes nothing that is read."""
    data, random_ = bundle_of(made, kind), random.Random(kind)
    for _ in range(150):
        at = random_.randrange(len(data))
        changed = data[:at] + bytes([data[at] ^ 1 << random_.randrange(8)]) + data[at + 1 :]
        try:
            verify_bundle.verify(io.BytesIO(changed), [])
        except verify_bundle.Broken:
            continue
        assert opened(changed) == opened(data)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        (10, zipfile.ZIP_BZIP2, "neither stored nor deflated"),
        (10, zipfile.ZIP_LZMA, "neither stored nor deflated"),
        (10, 99, "neither stored nor deflated"),
        (8, 1, "encrypted"),
        (8, 0x20, "patch"),
    ],
)
def test_a_file_that_is_packed_in_another_way_is_refused(made, field, value, told):
    """Whatever its bytes are: a flipped bit can make it so."""
    data = bytearray(bundle_of(made, "session"))
    entry = -1
    while (entry := data.find(b"PK\x01\x02", entry + 1)) >= 0:  # in the central directory
        data[entry + field : entry + field + 2] = value.to_bytes(2, "little")
    with pytest.raises(verify_bundle.Broken, match=told):
        verify_bundle.verify(io.BytesIO(data), [])


@pytest.mark.parametrize("kind", ["session", "log"])
def test_events_cannot_be_left_out_moved_or_doubled(tmp_path, made, kind):
    """At the beginning, in the middle and at the end, whatever else is made to fit."""
    files = opened(bundle_of(made, kind))
    events, leaves = lines_of(files, "events.jsonl"), lines_of(files, "leaves.txt")
    proofs = lines_of(files, "proofs.jsonl") if kind == "session" else []
    last = len(events) - 1
    for at in (0, last // 2, last):
        orders = {
            "left out": [number for number in range(last + 1) if number != at],
            "doubled": [*range(at + 1), *range(at, last + 1)],
            "swapped": [*range(at), *([at + 1, at] if at < last else [at]), *range(at + 2, last + 1)],
            "cut": [*range(at)],
        }
        for name, order in orders.items():
            if order == [*range(last + 1)] or (not order):
                continue
            new = with_lines(files, "events.jsonl", [events[number] for number in order])
            said = is_caught(packed(rehashed(new)))
            assert said, name
            new = with_lines(new, "leaves.txt", [leaves[number] for number in order])
            if proofs:
                new = with_lines(new, "proofs.jsonl", [proofs[number] for number in order])
            counted = json.loads(new["manifest.json"]) | {"events": len(order)}
            new |= {"manifest.json": verify_bundle.canonical(counted)}
            if kind == "log" or order != [*range(len(order))]:  # what came after its end no session's bundle can show
                assert is_caught(packed(rehashed(new))).startswith("position "), name


@pytest.mark.parametrize("kind", ["session", "log"])
def test_everything_made_anew_under_another_key_is_another_log(tmp_path, made, kind):
    """Who rewrites the log and signs it himself has another key: with the one that is trusted, it is found; without
    one, the key is printed to be compared.
    """
    files = opened(bundle_of(made, kind))
    lines = lines_of(files, "events.jsonl")
    forged = [line.replace("An answer", "A forgery") for line in lines]
    events = [json.loads(line) for line in forged]
    for event in events:
        if event["body"] is not None:
            body = event["body"].encode()
            event |= {
                "length": len(body),
                "commitment": hashlib.sha256(bytes.fromhex(event["salt"]) + body).hexdigest(),
            }
    new = rehashed(with_lines(files, "events.jsonl", [verify_bundle.canonical(each).decode() for each in events]))
    manifest = json.loads(files["manifest.json"])
    tree = verify_bundle.Tree()
    for event in events:
        tree.append(verify_bundle.leaf_hash(event))
    origin = manifest["names"][-1][1]
    signer = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    note = str(signer.sign(Checkpoint(origin, manifest["size"], tree.root())))
    new = with_lines(new, "checkpoints.jsonl", [verify_bundle.canonical({"note": note}).decode()])
    new = with_lines(new, "keys.txt", [str(signer.verifier(origin))])
    is_caught(packed(new), made.key)
    if kind == "log":
        code, said = verdict(tmp_path, packed(new))
        assert code == 0
        assert str(signer.verifier(origin)) in said
        assert made.key not in said


def test_words_that_were_erased_cannot_be_put_back_or_taken_away(tmp_path, made):
    """A body that is there in spite of an erasure, or is gone without one, is named."""
    for kind in ("session", "log"):
        files = opened(bundle_of(made, kind))
        lines = lines_of(files, "events.jsonl")
        events = [json.loads(line) for line in lines]
        for number, event in enumerate(events):
            if event["body"] is None or event["type"] not in {"message.appended", "body.erased"}:
                continue
            gone = verify_bundle.canonical(event | {"body": None, "salt": None}).decode()
            new = with_lines(files, "events.jsonl", [*lines[:number], gone, *lines[number + 1 :]])
            said = is_caught(packed(rehashed(new)))
            assert said == f"position {event['position']}: has no body, and no erasure"


async def test_words_from_before_an_erasure_cannot_be_put_back(path, tmp_path):
    """Somebody who kept an earlier export puts the words back: they are authentic, and erased, and that is said."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        message = await chat.append_message(session.id, "Erase me.")
        before, after = io.BytesIO(), io.BytesIO()
        await chat.export(before, session.id)
        await chat.erase(session.id, "x", versions=[message.version])
        await chat.export(after, session.id)
    old, files = opened(before.getvalue()), opened(after.getvalue())
    lines = lines_of(files, "events.jsonl")
    lines[1] = lines_of(old, "events.jsonl")[1]
    said = is_caught(packed(rehashed(with_lines(files, "events.jsonl", lines))))
    assert said == "position 2: was erased, and its words are here"


def test_files_can_neither_be_added_nor_taken_away(tmp_path, made):
    """Each file is one that the manifest names, once."""
    files = opened(made.one)
    for name in files:
        without = {each: data for each, data in files.items() if each != name}
        is_caught(packed(without, new_manifest=False))
        if name not in {"FORMAT.md", "verify_bundle.py"}:
            is_caught(packed(without))
    for more in ("more.txt", f"documents/{hashlib.sha256(b'x').hexdigest()}.json"):
        is_caught(packed(files | {more: b"x"}, new_manifest=False))
        assert "no event names it" in is_caught(packed(files | {more: b"x"}))
    to = io.BytesIO(made.one)
    with zipfile.ZipFile(to, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("transcript.md", b"another")
    assert "not those that" in is_caught(to.getvalue())


@pytest.mark.parametrize("kind", ["session", "log"])
def test_a_document_that_is_missing_or_another_is_found(tmp_path, made, kind):
    """By the first position that names it, with whatever digest."""
    files = opened(bundle_of(made, kind))
    for name, data in documents_of(files).items():
        digest = name.removeprefix("documents/").removesuffix(".json")
        named = [json.loads(line) for line in lines_of(files, "events.jsonl") if digest in line]
        changed, without = data.replace(b"tool", b"tole"), {each: files[each] for each in files if each != name}
        other = f"documents/{hashlib.sha256(changed).hexdigest()}.json"
        for new in (files | {name: changed}, without, without | {other: changed}):
            assert is_caught(packed(new)).startswith(f"position {named[0]['position']}: {name}")


@pytest.mark.parametrize("field", ["events", "format", "kind", "names", "session", "size", "tenant"])
def test_every_field_of_the_manifest_is_watched(tmp_path, made, field):
    """Also when all digests are made to fit."""
    for kind, others in {
        "session": {"kind": "log", "session": str(made.other), "names": [[2, "x"]]},
        "log": {"kind": "session", "session": str(made.session), "names": [[1, "x"]]},
    }.items():
        files = opened(bundle_of(made, kind))
        manifest = json.loads(files["manifest.json"])
        value = others.get(field, changed_value(manifest[field], random.Random(field)))
        for other in (value, "x", 1, True, [], {}):
            if other != manifest[field]:
                changed = verify_bundle.canonical(manifest | {field: other})
                is_caught(packed(files | {"manifest.json": changed}))


# --- taking in --------------------------------------------------------------------------------------------------------


def take(tmp_path, data, name="taken.db", caller=engine.LOCAL):
    file = tmp_path / "bundle.zip"
    file.write_bytes(data)
    return engine.import_bundle(Settings(database=str(tmp_path / name), drain_s=1), file, caller=caller)


def test_a_whole_log_keeps_its_hashes(tmp_path, made):
    """In an empty database it is the same log, row by row; projections, tree and checkpoints are there, and verify."""
    imported = take(tmp_path, made.whole)
    taken = tmp_path / "taken.db"
    assert imported.events == audit(taken)
    source = tmp_path / "source.db"
    snapshot(made.path, source)
    size = imported.events
    for table in LOG_TABLES:
        assert dump(taken, [table]) == dump(source, [table]), table
    assert_rebuilds(taken, tmp_path / "scratch.db")
    assert kept_documents(taken) == kept_documents(source) == {*documents_of(opened(made.whole)).values()}
    kept = query(taken, "SELECT origin, size, root, note FROM checkpoints ORDER BY size")
    assert kept == query(
        source, "SELECT origin, size, root, note FROM checkpoints WHERE size <= ? ORDER BY size", (size,)
    )
    assert engine.verify_database(str(taken)).problem is None


def test_a_session_is_taken_in_once(tmp_path, made):
    """The same bundle again is refused and names the session that it became; nothing is added. One of the same session
    that has grown since is another.
    """
    first = take(tmp_path, made.one)
    before = dump(tmp_path / "taken.db")
    with pytest.raises(engine.EngineError, match=str(first.session_id)) as refused:
        take(tmp_path, made.one)
    assert (refused.value.code, refused.value.extra["session_id"]) == ("already_imported", str(first.session_id))
    assert dump(tmp_path / "taken.db", ["events", "bodies", "requests"]) == {
        table: rows for table, rows in before.items() if table in {"events", "bodies", "requests"}
    }


def test_a_session_that_is_too_long_leaves_nothing(tmp_path, made):
    """It is refused whole, with the setting that bounds it: an import is one append."""
    file = tmp_path / "bundle.zip"
    file.write_bytes(made.one)
    settings = Settings(database=str(tmp_path / "taken.db"), drain_s=1, max_import_events=3)
    with pytest.raises(engine.TooLarge, match="max_import_events"):
        engine.import_bundle(settings, file)
    assert query(tmp_path / "taken.db", "SELECT count(*) FROM events") == [(0,)]


def kept_documents(path):
    return {salt + data for salt, data in query(path, "SELECT coalesce(salt, x''), bytes FROM documents")}


async def test_a_log_that_was_taken_in_goes_on(tmp_path, made):
    """It is read, written and exported again like any other, under its name; what was erased stays so."""
    file = tmp_path / "bundle.zip"
    file.write_bytes(made.whole)
    settings = Settings(database=str(tmp_path / "taken.db"), drain_s=1)
    await asyncio.to_thread(engine.import_bundle, settings, file)
    async with chatting(tmp_path / "taken.db") as chat:
        session = await chat.session(made.session)
        assert session.title == "Another title"
        messages = (await chat.messages(made.session)).items
        assert [bool(message.erased) for message in messages].count(True) == 1
        assert text_of(messages[0]) == NASTY
        assert (await chat.say(made.session, "Go on.", model=ECHO)).status == "completed"
        again = io.BytesIO()
        await chat.export(again)
    code, said = verdict(tmp_path, again.getvalue())
    assert code == 0, said
    before, after = (json.loads(opened(each)["manifest.json"]) for each in (made.whole, again.getvalue()))
    assert before["names"] == after["names"]


def test_a_whole_log_goes_into_an_empty_one_only(tmp_path, made):
    """Where the tenant's log has begun it is refused and nothing changes; another tenant's log does not mind, and the
    bundle's tenant is never another.
    """
    take(tmp_path, made.whole)
    before = dump(tmp_path / "taken.db")
    with pytest.raises(Refused):
        take(tmp_path, made.whole)
    with pytest.raises(Invalid):
        take(tmp_path, made.whole, caller=engine.Caller("acme"))
    assert dump(tmp_path / "taken.db") == before


async def test_a_log_with_a_running_turn_is_taken_in(path, tmp_path):
    """A turn that ran when its log was exported runs nowhere any more: the next start ends it, and the session goes
    on.
    """
    async with chatting(path, slow=says("Half", {"hang": True}), drain_s=0) as chat:
        session = await chat.create_session(model="scripted/slow")
        turn = await begin(chat, session.id, "Go.")
        await shown(chat, turn, 3)
        to = io.BytesIO()
        await chat.export(to)
    await asyncio.to_thread(take, tmp_path, to.getvalue())
    async with chatting(tmp_path / "taken.db") as chat:
        assert (await chat.turn(turn)).status == "interrupted"
        assert (await chat.say(session.id, "Again.", model=ECHO)).status == "completed"


@pytest.mark.parametrize("kind", ["session", "log"])
def test_a_broken_bundle_is_not_taken_in(tmp_path, made, kind):
    """It is verified first, and the broken position named; the database is not even made."""
    files = opened(bundle_of(made, kind))
    tampered = files["events.jsonl"].replace(b"An answer", b"A denial.")
    with pytest.raises(Broken) as broken:
        take(tmp_path, packed(files | {"events.jsonl": tampered}))
    lines = map(json.loads, lines_of(files, "events.jsonl"))
    assert broken.value.position == next(line["position"] for line in lines if "An answer" in (line["body"] or ""))
    assert not (tmp_path / "taken.db").exists()
    with pytest.raises(Invalid):
        engine.import_bundle(Settings(database=str(tmp_path / "taken.db")), tmp_path / "missing.zip")


def test_a_session_comes_in_as_a_new_one(tmp_path, made):
    """What was said is there again under new ids, each event naming the one it comes from; what is erased, and what
    belongs to turns that ran elsewhere, stays behind, the tools that they were told of among it.
    """
    imported = take(tmp_path, made.one)
    taken = tmp_path / "taken.db"
    assert imported.session_id != made.session
    old = [json.loads(line) for line in lines_of(opened(made.one), "events.jsonl")]
    ids = {event["id"] for event in old}
    new = query(taken, "SELECT lower(hex(causation)), type, lower(hex(id)) FROM events ORDER BY position")
    assert len(new) == imported.events
    assert imported.left_behind == len(old) - len(new)
    assert {cause for cause, *_ in new} <= {each.replace("-", "") for each in ids}
    assert not {event_id for *_, event_id in new} & {each.replace("-", "") for each in ids}
    kept = [event for event in old if event["type"] in {"session.started", "session.updated", "message.appended"}]
    assert [kind for _, kind, _ in new] == [event["type"] for event in kept if event["body"] is not None]
    assert kept_documents(taken) == set()
    audit(taken)
    assert_rebuilds(taken, tmp_path / "scratch.db")


async def test_names_of_the_other_server_come_in_as_words(tmp_path):
    """What it lists and registers, nobody here does: such names are no facts of the new session, and go when erased."""

    class Elsewhere(Dictated):
        """A vendor whose models are listed there."""

        name = "openai"

    @engine.tool
    def payroll(employee: str) -> str:
        """Looks it up."""
        return employee

    async with chatting(tmp_path / "there.db", tools=[payroll], providers=[Elsewhere()]) as chat:
        fields = {"model": "openai/our-own", "fallback_model": "openai/spare", "allowed_tools": ["payroll"]}
        session = await chat.create_session(**fields)
        with (tmp_path / "one.zip").open("wb") as file:
            await chat.export(file, session.id)
    here = tmp_path / "here.db"
    imported = await asyncio.to_thread(engine.import_bundle, Settings(database=str(here)), tmp_path / "one.zip")
    for (facts,) in query(here, "SELECT facts FROM events"):
        assert not [name for name in (b"our-own", b"spare", b"payroll") if name in facts]
    async with engine.open(here) as chat:
        taken = await chat.session(imported.session_id)
        assert {name: getattr(taken, name) for name in fields} == fields | {"allowed_tools": ("payroll",)}
        await chat.erase(taken.id, "x")
        left = await chat.session(taken.id)
        assert (left.model, left.fallback_model, left.allowed_tools) == ("other/other", None, ())
    assert_rebuilds(here, tmp_path / "scratch.db")


def test_a_session_leaves_documents_behind(tmp_path):
    """Nothing in the log that takes it in names them, so that no erasure would reach them."""
    old = tmp_path / "old.db"
    old.write_bytes(gzip.decompress((GOLDEN / "paused-0007.db.gz").read_bytes()))

    async def bundle():
        async with chatting(old, unwitnessed=True) as chat:
            sessions = (await chat.sessions()).items
            with (tmp_path / "one.zip").open("wb") as file:
                await chat.export(file, next(each.id for each in sessions if each.title == "rain"))

    asyncio.run(bundle())
    assert documents_of(opened((tmp_path / "one.zip").read_bytes()))
    taken = tmp_path / "taken.db"
    engine.import_bundle(Settings(database=str(taken)), tmp_path / "one.zip")
    assert query(taken, "SELECT count(*) FROM documents") == [(0,)]


async def test_an_imported_session_goes_on(tmp_path, made):
    """Its messages are those of the old one, its metadata says where it comes from, and a model answers it."""
    imported = await asyncio.to_thread(take, tmp_path, made.one)
    manifest = json.loads(opened(made.one)["manifest.json"])
    async with chatting(made.path) as chat:
        then = [message for message in (await chat.messages(made.session)).items if not message.erased]
    async with chatting(tmp_path / "taken.db") as chat:
        session = await chat.session(imported.session_id)
        assert session.title == "Another title"
        assert session.system == "Be brief."
        assert session.metadata["a"] == [1]
        assert session.metadata["imported_from"]["session"] == str(made.session)
        assert session.metadata["imported_from"]["size"] == manifest["size"]
        now = (await chat.messages(session.id)).items
        assert [(each.role, each.complete, text_of(each)) for each in now] == [
            (each.role, each.complete, text_of(each)) for each in then
        ]
        assert (await chat.say(session.id, "Go on.", model=ECHO)).status == "completed"


def test_a_session_can_come_in_beside_others(tmp_path, made):
    """Into the log of any tenant, and beside what is there: each time as another session."""
    first, second = take(tmp_path, made.one), take(tmp_path, made.one, caller=engine.Caller("acme"))
    assert first.session_id != second.session_id
    assert second.tenant == "acme"
    assert query(tmp_path / "taken.db", "SELECT tenant, count(*) FROM sessions GROUP BY tenant") == [
        ("acme", 1),
        ("default", 1),
    ]
