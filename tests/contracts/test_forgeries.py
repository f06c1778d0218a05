"""Bundles that were made up, by somebody who knows the format, has keys of their own, and has seen an honest bundle,
its key and its witness: whatever they put into it, the verifier never says that the log's key signed it.
"""

import base64
import hashlib
import io
import json
import random
import zipfile
from contextlib import redirect_stdout
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from manent.engine.audit.bundle import verify_bundle
from manent.engine.audit.notes import COSIGNATURE, ED25519, Verifier
from manent.engine.log import merkle
from tests.support import chatting

SEEDS, FORGERIES = 4, 100
FORGER, STRANGER, WITNESS = (Ed25519PrivateKey.from_private_bytes(bytes(31) + bytes([number])) for number in (1, 2, 3))
TIME_S = 1_800_000_000


def key_of(name, private, kind=ED25519):
    """The verifier key of a private key, in somebody's name."""
    return Verifier(name, kind, private.public_key().public_bytes_raw())


WITNESS_KEY = key_of("witness.example", WITNESS, COSIGNATURE)


@pytest.fixture(scope="module")
async def honest(tmp_path_factory):
    """What the forger has seen: a session with an erasure, as it was exported and cosigned, and the key of its log."""
    async with chatting(tmp_path_factory.mktemp("honest") / "chat.db") as chat:
        session = await chat.create_session(model="echo/echo")
        await chat.say(session.id, "Agreed.")
        await chat.append_message(session.id, "To be erased.")
        await chat.erase(session.id, "they asked", versions=[(await chat.session(session.id)).version])
        note = await chat.evidence.checkpoint(new=True)
        text = note.rpartition("\n\n")[0] + "\n"
        await chat.evidence.cosign(note + cosignature(text, WITNESS_KEY, WITNESS), str(WITNESS_KEY))
        key, data = (await chat.evidence.keys())[0], io.BytesIO()
        await chat.export(data)
    with zipfile.ZipFile(data) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    note = json.loads(files["checkpoints.jsonl"].splitlines()[-1])["note"]
    events = [json.loads(line) for line in files["events.jsonl"].splitlines()]
    return SimpleNamespace(
        key=key, origin=key.partition("+")[0], note=note, events=events, files=files, data=data.getvalue()
    )


def signature_line(name, data):
    return f"\u2014 {name} {base64.b64encode(data).decode()}\n"


def cosignature(text, verifier, private):
    signed = private.sign(f"cosignature/v1\ntime {TIME_S}\n{text}".encode())
    return signature_line(verifier.name, verifier.key_id + TIME_S.to_bytes(8, "big") + signed)


class Forgery:
    """A bundle made up by chance, from what an honest one tells."""

    def __init__(self, honest, random_):
        self.honest, self.random = honest, random_
        self.kind = random_.choice(["session", "log", "session", "log", "session", "log", "Log", "", None, ["log"]])
        other = random_.choice(["manent/x/default", f"x\r{honest.origin}"])
        self.origin = random_.choice([honest.origin, honest.origin, honest.origin, other])
        self.own = key_of(self.origin, FORGER)
        self.lies = [
            f"\nconsistent, signed by {honest.key}",
            f"\x1b[2J\x1b[Hconsistent, signed by {honest.key}",
            f"\rconsistent, signed by {honest.key}",
            f"consistent, signed by {honest.key}, witnessed by 1",
            "Denied.",
        ]

    def data(self):
        """The bundle."""
        events = self.events()
        leaves = [verify_bundle.leaf_hash(event) for event in events]
        root = merkle.Frontier().extend(leaves).root()
        manifest = {
            "events": len(events),
            "format": verify_bundle.FORMAT,
            "kind": self.kind,
            "names": [[1, self.origin]],
            "session": None if self.kind == "log" else events[0]["session"],
            "size": len(events),
            "tenant": events[0]["tenant"],
        }
        files = {name: self.honest.files[name] for name in ("FORMAT.md", "verify_bundle.py")}
        files |= self.lines("events.jsonl", map(canonical, events))
        files |= self.lines("leaves.txt", (f"{n} {leaf.hex()}" for n, leaf in enumerate(leaves, 1)))
        if self.kind != "log":
            files |= self.lines("proofs.jsonl", (canonical(path) for path in paths(leaves)))
        files |= self.lines("keys.txt", self.keys())
        files |= self.lines("checkpoints.jsonl", map(canonical, self.checkpoints(len(leaves), root)))
        files |= dict(zip(verify_bundle.TRANSCRIPTS, transcripts(events, whole=self.kind == "log"), strict=True))
        manifest["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        files["manifest.json"] = canonical(manifest).encode()
        to = io.BytesIO()
        with zipfile.ZipFile(to, "w") as archive:
            for name in self.random.sample(sorted(files), len(files)):
                archive.writestr(name, files[name])
        return to.getvalue()

    def events(self):
        """Other words, another reason of the erasure, all under the forger's name of the log; now and then in another
        order.
        """
        events = [event | {"origin": self.origin} for event in self.honest.events]
        for event in events:
            if event["type"] in {"message.appended", "body.erased"} and event["body"] is not None:
                words, lie = json.loads(event["body"]), self.random.choice(self.lies)
                words |= {"reason": lie} if "reason" in words else {"content": [{"type": "text", "text": lie}]}
                body = json.dumps(words).encode()
                commitment = hashlib.sha256(bytes.fromhex(event["salt"]) + body).hexdigest()
                event |= {"body": body.decode(), "length": len(body), "commitment": commitment}
        if self.random.random() < 0.1:
            self.random.shuffle(events)
        return events

    def keys(self):
        """The forger's key among others, the honest one before all: in any order, any of them more than once."""
        others = [self.honest.key, self.honest.key, str(key_of(self.origin, STRANGER)), str(WITNESS_KEY)]
        keys = [str(self.own), *self.random.sample(others, self.random.randrange(len(others) + 1))]
        self.random.shuffle(keys)
        return keys

    def checkpoints(self, size, root):
        """One of the forger's, among signatures that were seen elsewhere; now and then with the honest one before it or
        behind it.
        """
        text = f"{self.origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        seen = [f"{line}\n" for line in self.honest.note.rpartition("\n\n")[2].splitlines()]
        true = verify_bundle.Key(self.honest.key)
        more = [
            *seen,
            signature_line(true.name, true.id + FORGER.sign(text.encode())),
            cosignature(text, key_of("stranger.example", STRANGER, COSIGNATURE), STRANGER),
            cosignature(text, WITNESS_KEY, STRANGER),
            cosignature(text, key_of("witness.example", STRANGER, COSIGNATURE), STRANGER),
        ]
        lines = [signature_line(self.own.name, self.own.key_id + FORGER.sign(text.encode()))]
        lines += self.random.sample(more, self.random.randrange(len(more) + 1))
        self.random.shuffle(lines)
        notes = [{"note": text + "\n" + "".join(lines)}]
        if self.random.random() < 0.1:
            notes.insert(self.random.randrange(2), {"note": self.honest.note})
        return notes

    def lines(self, name, lines):
        return {name: "".join(f"{line}\n" for line in lines).encode()}


def canonical(value):
    return verify_bundle.canonical(value).decode()


def paths(leaves):
    """An inclusion proof for each leaf."""

    def node(level, number):
        return merkle.Frontier().extend(leaves[number << level : (number + 1) << level]).root()

    for index in range(len(leaves)):
        yield [each.hex() for each in merkle.inclusion_path(index, len(leaves), node)]


def transcripts(events, *, whole):
    """What people would read, derived as the verifier derives it."""
    pieces = [verify_bundle.TRANSCRIPT_HEAD]
    for event in events:
        words = json.loads(event["body"] or "{}")
        pieces.append(verify_bundle.transcript_of(event, words, with_session=whole))
    pieces.append(verify_bundle.TRANSCRIPT_TAIL)
    return ["".join(piece[number] for piece in pieces).encode() for number in range(2)]


def verdict(file, *options):
    """What the verifier says: its exit code, and its lines as a terminal would break them."""
    with redirect_stdout(io.StringIO()) as said:
        code = verify_bundle.main([str(file), *options])
    return code, said.getvalue().splitlines()


def assert_not_the_logs(lines, key):
    """No line claims anything of the key: where it stands at all, it stands in quoted words."""
    assert not any(line.startswith("consistent, signed") or line.strip() == key for line in lines), lines
    for line in lines:
        assert key not in line or line.startswith("erased: "), line
        assert line.isprintable()


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_no_forgery_is_signed_by_the_logs_key(honest, tmp_path, tell, seed):
    """Re-signed, with keys added and moved, of another kind, with signatures of strangers and of the past: without a
    key nobody has signed; with the log's key it is broken; with the forger's it is the forger's, and no witness saw it.
    """
    consistent, file = 0, tmp_path / "forged.zip"
    for number in range(FORGERIES):
        forgery = Forgery(honest, random.Random(f"{seed}/{number}"))
        file.write_bytes(forgery.data())
        code, lines = verdict(file)
        assert_not_the_logs(lines, honest.key)
        assert lines[0].startswith(("consistent, signer not checked", "BROKEN: ")[code])
        consistent += code == 0
        code, lines = verdict(file, "--key", honest.key, "--witness", str(WITNESS_KEY))
        assert code == 1
        assert_not_the_logs([line.replace(f"no good signature by {honest.key}", "") for line in lines], honest.key)
        code, lines = verdict(file, "--key", str(forgery.own), "--witness", str(WITNESS_KEY))
        assert "witnessed by 1" not in lines[0]
        assert code == 1 or lines[0].startswith("consistent, signed by " + verify_bundle.visible(str(forgery.own)))
    assert consistent > FORGERIES // 4, "the forger is a bungler"
    tell(f"{FORGERIES} forgeries, of which {consistent} agree with themselves")


async def test_the_honest_bundle_is_signed_and_witnessed(honest, tmp_path):
    """What the forger has seen is signed by the log's key, and the witness counts."""
    file = tmp_path / "honest.zip"
    file.write_bytes(honest.data)
    code, lines = verdict(file, "--key", honest.key, "--witness", str(WITNESS_KEY))
    assert (code, lines[0]) == (0, f"consistent, signed by {honest.key}, witnessed by 1")
