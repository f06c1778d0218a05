"""Evidence over HTTP: proofs that hold by the text of the RFC, checkpoints that are signed, tiles that add up."""

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from manent.engine.audit.notes import Verifier, parse_checkpoint, parse_note, parse_verifier
from manent.engine.log import merkle
from tests.api.conftest import settings_on
from tests.api.harness import in_thread


@pytest.fixture
def many(client, session):
    """A session in a log of more than a tile."""
    message = {"role": "user", "content": "word"}
    for _ in range(3):
        client.post(f"/api/sessions/{session}/messages", json={"messages": [message] * 100}).raise_for_status()
    return session


def checkpoint_of(client):
    """The newest checkpoint, its signature verified by the key that the log names."""
    client.post("/api/log/checkpoint").raise_for_status()
    note = parse_note(client.get("/api/log/checkpoint").text)
    key = parse_verifier(client.get("/api/log/key").text.splitlines()[0])
    assert key.signed(note)
    return parse_checkpoint(note.text)


def test_an_event_is_proved(client, many):
    """The leaf given hashes to the leaf hash, and leads to the root of a signed checkpoint."""
    events = client.get(f"/api/sessions/{many}/events", params={"limit": 1000}).json()["items"]
    for event in (events[0], events[150], events[-1]):
        proof = client.get(f"/api/sessions/{many}/events/{event['version']}/proof").json()
        note = parse_note(proof["checkpoint"])
        checkpoint = parse_checkpoint(note.text)
        assert hashlib.sha256(b"\0" + proof["leaf"].encode()).hexdigest() == proof["leaf_hash"] == event["leaf_hash"]
        assert json.loads(proof["leaf"])["id"] == event["id"]
        assert (proof["position"], proof["index"]) == (event["position"], event["position"] - 1)
        path = [bytes.fromhex(each) for each in proof["hashes"]]
        leaf_hash = bytes.fromhex(proof["leaf_hash"])
        assert merkle.verify_inclusion(leaf_hash, proof["index"], checkpoint.size, path, checkpoint.root)
        assert (proof["size"], proof["root"]) == (checkpoint.size, checkpoint.root.hex())
        assert parse_verifier(client.get("/api/log/key").text).signed(note)


def test_a_proof_is_there_when_the_append_is_acknowledged(client, session):
    """However fresh: a checkpoint is made if none covers the event yet."""
    for _ in range(3):
        version = client.post(f"/api/sessions/{session}/messages", json={"content": "new"}).json()["version"]
        assert client.get(f"/api/sessions/{session}/events/{version}/proof").status_code == 200


def test_a_proof_as_text_says_the_same(client, session):
    """C2SP tlog-proof: header, leaf, index, hashes, and the checkpoint below."""
    proof = client.get(f"/api/sessions/{session}/events/1/proof").json()
    answer = client.get(f"/api/sessions/{session}/events/1/proof", params={"format": "c2sp"})
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    head, _, note = answer.text.partition("\n\n")
    header, extra, index, *hashes = head.split("\n")
    assert (header, index) == ("c2sp.org/tlog-proof@v1", f"index {proof['index']}")
    assert base64.b64decode(extra.removeprefix("extra ")).decode() == proof["leaf"]
    assert [base64.b64decode(each).hex() for each in hashes] == proof["hashes"]
    assert note == proof["checkpoint"]


def test_the_log_only_grew(client, many):
    """Consistency of two sizes, as JSON and as a witness is sent it."""
    checkpoint = checkpoint_of(client)
    proof = client.get("/api/log/consistency", params={"from": 7}).json()
    assert (proof["from"], proof["to"]) == (7, checkpoint.size)
    path = [bytes.fromhex(each) for each in proof["hashes"]]
    roots = bytes.fromhex(proof["from_root"]), bytes.fromhex(proof["to_root"])
    assert merkle.verify_consistency(7, checkpoint.size, *roots, path)
    assert roots[1] == checkpoint.root
    text = client.get("/api/log/consistency", params={"from": 7, "format": "c2sp"}).text
    assert text.startswith("old 7\n")
    assert text.endswith(proof["checkpoint"])
    between = client.get("/api/log/consistency", params={"from": 7, "to": 100}).json()
    assert merkle.verify_consistency(
        7, 100, roots[0], bytes.fromhex(between["to_root"]), [bytes.fromhex(each) for each in between["hashes"]]
    )


@pytest.mark.parametrize(
    ("query", "field"),
    [("from=9&to=8", "from"), ("from=1&to=9007199254740991", "to"), ("from=-1", "from"), ("to=3", "from")],
)
def test_sizes_that_the_log_did_not_have_are_refused(client, session, query, field):
    """With the name of the parameter that is wrong."""
    answer = client.get(f"/api/log/consistency?{query}")
    assert answer.status_code == 400
    assert answer.json()["field"] == field


def test_tiles_add_up_to_the_checkpoint(client, many):
    """Whoever follows the log by its tiles comes to the root that was signed."""
    checkpoint = checkpoint_of(client)
    full, rest = divmod(checkpoint.size, 256)
    assert full
    leaves = [client.get(f"/api/log/tile/0/{number:03}").content for number in range(full)]
    leaves.append(client.get(f"/api/log/tile/0/{full:03}.p/{rest}").content if rest else b"")
    data = b"".join(leaves)
    hashes = [data[at : at + 32] for at in range(0, len(data), 32)]
    assert merkle.Frontier().extend(hashes).root() == checkpoint.root
    above = client.get(f"/api/log/tile/1/000.p/{full}")
    assert above.content[:32] == merkle.Frontier().extend(hashes[:256]).root()
    assert above.headers["content-type"] == "application/octet-stream"
    assert "immutable" in above.headers["cache-control"]


@pytest.mark.parametrize(
    "tile",
    [
        *("0/999", "0/x001/000", "0/0", "00/000", "64/000", "99/000", "0/000.p/0", "0/000.p/256", "0/000.p/01"),
        *("entries/000", "0/x001", "0/000/x001", "-1/000", "1/000", "0/000.p", "0/../000", "x"),
        "0/" + "x999/" * 6 + "999",
    ],
)
def test_a_tile_that_is_not_there_is_not_found(client, session, tile):
    """Of another form, of another level, beyond the end; and no words are served."""
    assert client.get(f"/api/log/tile/{tile}").status_code == 404


@pytest.mark.parametrize("version", ["0", "999", "9007199254740992", "9223372036854775808", "x"])
def test_an_event_that_is_not_there_has_no_proof(client, session, version):
    """Not found, whatever the number."""
    assert client.get(f"/api/sessions/{session}/events/{version}/proof").status_code in {400, 404}


def test_a_witness_signs_and_is_served(client, session):
    """A good cosignature is kept below the checkpoint; another one is refused."""
    checkpoint_of(client)
    note = client.get("/api/log/checkpoint").text
    text = note.partition("\n\n")[0] + "\n"
    key = Ed25519PrivateKey.generate()
    witness = Verifier("witness.example/w", 4, key.public_key().public_bytes_raw())
    signature = key.sign(b"cosignature/v1\ntime 1700000000\n" + text.encode())
    data = base64.b64encode(witness.key_id + (1_700_000_000).to_bytes(8, "big") + signature).decode()
    line = f"\u2014 {witness.name} {data}\n"
    bad = line.replace(data[12:16], "AAAA")
    for sent, given in ((note, witness), (note + bad, witness), (note + line, Verifier("other", 4, witness.public))):
        answer = client.post("/api/log/cosignatures", json={"note": sent, "key": str(given)})
        assert answer.status_code == 400
        assert answer.json()["code"] == "proof_invalid"
    sent = {"note": text + "\n" + line, "key": str(witness)}
    assert client.post("/api/log/cosignatures", json=sent).status_code == 204
    assert client.post("/api/log/cosignatures", json=sent).status_code == 204
    assert client.get("/api/log/checkpoint").text == note + line
    assert witness.signed(parse_note(client.get("/api/log/checkpoint").text))


def test_a_database_that_is_behind_is_served_read_only(tmp_path):
    """Reads go on, with their proofs; a write is told why it is refused, and readiness says no."""
    settings = settings_on(tmp_path)
    with in_thread(settings) as server, server.client() as client:
        session = client.post("/api/sessions", json={}).json()["id"]
    database = tmp_path / "manent.db"
    before = database.read_bytes()
    with in_thread(settings) as server, server.client() as client:
        client.post(f"/api/sessions/{session}/messages", json={"content": "gone"}).raise_for_status()
    database.write_bytes(before)
    with in_thread(settings) as server, server.client() as client:
        assert any("behind its last checkpoint outside" in line for line in server.lines)
        answer = client.post(f"/api/sessions/{session}/messages", json={"content": "no"})
        assert answer.status_code == 503
        assert answer.json()["code"] == "behind"
        assert answer.json()["position"] == 2
        assert client.post("/api/log/checkpoint").status_code == 503
        assert client.get("/readyz").status_code == 503
        assert client.get(f"/api/sessions/{session}").status_code == 200
        assert client.get(f"/api/sessions/{session}/events/1/proof").status_code == 200
