"""Signed notes and checkpoints: the examples of C2SP's documents, and what is refused."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from manent.engine.audit.notes import (
    Checkpoint,
    Note,
    Signature,
    Signer,
    Verifier,
    parse_checkpoint,
    parse_note,
    parse_signature,
    parse_verifier,
)
from manent.engine.errors import ProofInvalid

SIGNED_NOTE = (
    "This is an example message.\n\n\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZ"
    "XsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
CHECKPOINT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"


def test_the_example_of_signed_note():
    """C2SP signed-note: the note is verified by the key, and both are written as they were read."""
    note, key = parse_note(SIGNED_NOTE), parse_verifier(KEY)
    assert key.signed(note)
    assert (str(note), str(key)) == (SIGNED_NOTE, KEY)
    assert note.text == "This is an example message.\n"
    assert not key.signed(Note("This is another message.\n", note.signatures))


def test_the_example_of_tlog_checkpoint():
    """C2SP tlog-checkpoint: origin, size and root; written as it was read."""
    checkpoint = parse_checkpoint(CHECKPOINT)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert base64.b64encode(checkpoint.root) == b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert checkpoint.text() == CHECKPOINT


def test_what_is_signed_is_verified_and_nothing_else():
    """By our signer: its verifier says yes to this text, and to no other text, name, key or signature."""
    signer, other = Signer(Ed25519PrivateKey.generate()), Signer(Ed25519PrivateKey.generate())
    checkpoint = Checkpoint("manent/1/default", 7, b"\7" * 32)
    note = parse_note(str(signer.sign(checkpoint)))
    assert parse_checkpoint(note.text) == checkpoint
    verifier = signer.verifier(checkpoint.origin)
    assert verifier.signed(note)
    assert not other.verifier(checkpoint.origin).signed(note)
    assert not signer.verifier("manent/1/other").signed(note)
    assert not verifier.signed(Note(note.text.replace("7", "8"), note.signatures))
    assert not verifier.signed(Note(note.text, ()))
    bad = Signature(verifier.name, verifier.key_id, b"\0" * 64)
    assert not verifier.signed(Note(note.text, (bad,)))
    assert not verifier.signed(Note(note.text, (*note.signatures, bad)))


def test_signatures_of_others_are_passed_over():
    """A note may carry any number that nobody here knows."""
    signer = Signer(Ed25519PrivateKey.generate())
    note = signer.sign(Checkpoint("log", 7, b"\7" * 32))
    stranger = Signature("witness.example/w", b"abcd", b"x" * 2428)
    assert signer.verifier("log").signed(parse_note(str(Note(note.text, (stranger, *note.signatures)))))


def test_a_cosignature_covers_its_time():
    """C2SP tlog-cosignature: time and text are signed together."""
    key = Ed25519PrivateKey.generate()
    witness = Verifier("witness.example/w", 4, key.public_key().public_bytes_raw())
    signed = key.sign(b"cosignature/v1\ntime 1679315147\n" + CHECKPOINT.encode())
    time = (1679315147).to_bytes(8, "big")
    assert witness.signed(Note(CHECKPOINT, (Signature(witness.name, witness.key_id, time + signed),)))
    later = (1679315148).to_bytes(8, "big")
    assert not witness.signed(Note(CHECKPOINT, (Signature(witness.name, witness.key_id, later + signed),)))
    assert not witness.signed(Note(CHECKPOINT, (Signature(witness.name, witness.key_id, signed),)))
    assert not witness.signed(Note(CHECKPOINT, (Signature(witness.name, witness.key_id, b""),)))


@pytest.mark.parametrize(
    "text",
    [
        *("", "\n", "text", "text\n", "text\n\n", "\n\n\u2014 a b\n", SIGNED_NOTE[:-1], SIGNED_NOTE + "more\n"),
        *(SIGNED_NOTE.replace("\u2014", "-"), SIGNED_NOTE.replace(" Uw2", "  Uw2"), SIGNED_NOTE.replace("=\n", "\n")),
        *(SIGNED_NOTE.replace("message", "mess\tage"), SIGNED_NOTE.replace("message", "mess\rage")),
        *(SIGNED_NOTE.replace("example.com/foo", "a+b"), "text\n\n\u2014 a AAAA\n", "x" * 70000 + SIGNED_NOTE),
        "text\n\n" + "\u2014 a AAAAAAA=\n" * 65,
    ],
)
def test_what_is_no_note_is_refused(text):
    """Cut off, control characters, names with a plus, signatures that are none, too much of everything."""
    with pytest.raises(ProofInvalid):
        parse_note(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "\n\n\n", "log\n1\n", "log\n\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n", CHECKPOINT[:-1]),
        *(CHECKPOINT.replace("2085", "02085"), CHECKPOINT.replace("2085", "-2085"), CHECKPOINT.replace("2085", "2e85")),
        *(
            CHECKPOINT.replace("CsU", "Cs"),
            CHECKPOINT.replace("=", ""),
            CHECKPOINT.replace("q2I=", "q2J="),
            "a" + "\n" * 4,
        ),
        CHECKPOINT + "\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text):
    """Fewer lines, empty ones, sizes with zeros in front, roots of another length or spelling."""
    with pytest.raises(ProofInvalid):
        parse_checkpoint(text)


def test_a_checkpoint_may_say_more():
    """Extension lines are not ours, and are allowed."""
    assert parse_checkpoint(CHECKPOINT + "extension\n").size == 20852163


@pytest.mark.parametrize(
    "text",
    [
        *("", "+", "++", "example.com/foo", KEY.replace("530d", "530e"), KEY[:-4], KEY.replace("Aeky", "Beky")),
        *(
            KEY.replace("+Aek", "+Auk"),
            KEY.replace("+Aek", "+Cek"),
            KEY.replace("/foo", " foo"),
            KEY.replace("530d", "530D"),
        ),
        "f" + KEY,
    ],
)
def test_what_is_no_verifier_key_is_refused(text):
    """Another hash, another type, another length, a name with a blank."""
    with pytest.raises(ProofInvalid):
        parse_verifier(text)


@pytest.mark.parametrize("line", ["", "\u2014 a", "\u2014 a !!", "\u2014  AAAAAAAA", "\u2014 a AAAA", "a AAAAAAAA"])
def test_what_is_no_signature_is_refused(line):
    """A line is a dash, a name, and more than four bytes."""
    with pytest.raises(ProofInvalid):
        parse_signature(line)
