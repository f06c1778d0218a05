"""The verifier that stands alone, against implementations that are not ours; and FORMAT.md's example, step by step."""

import ast
import hashlib
import json
import random
import re
import sys
from pathlib import Path

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from manent.engine.audit.bundle import verify_bundle
from manent.engine.audit.notes import COSIGNATURE, Verifier
from manent.engine.log import codec, merkle

FILE = Path(verify_bundle.__file__)
FORMAT = FILE.with_name("FORMAT.md").read_text("utf-8")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(max_codepoint=127)), inner),
    max_leaves=8,
)


# --- it stands alone --------------------------------------------------------------------------------------------------


def test_it_is_one_short_file_of_the_standard_library():
    """At most 500 lines, nothing imported but Python's own."""
    text = FILE.read_text("utf-8")
    assert text.count("\n") <= 500
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in modules} <= sys.stdlib_module_names


# --- its parts, against others' ---------------------------------------------------------------------------------------


@given(JSON)
def test_canonical_json_is_rfc_8785(value):
    """For what may stand in a leaf, it is what another implementation writes, and is read back."""
    canonical = verify_bundle.canonical(value)
    assert canonical == rfc8785.dumps(value)
    assert verify_bundle.parse(canonical) == value


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":1.5}',
        b'{"a":1e3}',
        b'{"a":NaN}',
        b'{"a":-0}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b' {"a":1}',
        b'{"a":1}\n',
        b'{"a":"\xff"}',
    ],
)
def test_any_other_json_is_refused(line):
    """One value has one line: there is no room for a second meaning."""
    with pytest.raises(ValueError, match=r"."):
        verify_bundle.parse(line)


def test_signatures_are_those_of_another_implementation():
    """Good ones verify; with one bit changed anywhere, in key, signature or message, none does."""
    random_ = random.Random(7)
    for number in range(12):
        key = Ed25519PrivateKey.from_private_bytes(random_.randbytes(32))
        public, message = key.public_key().public_bytes_raw(), random_.randbytes(number * 7)
        signature = key.sign(message)
        assert verify_bundle.ed25519_verifies(public, signature, message)
        for data in (public, signature, message or b"\0"):
            at, bit = random_.randrange(len(data)), 1 << random_.randrange(8)
            changed = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
            parts = [changed if each is data else each for each in (public, signature, message or b"\0")]
            assert not verify_bundle.ed25519_verifies(*parts)


RFC_8032 = [  # section 7.1: public key, message, signature
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


@pytest.mark.parametrize(("public", "message", "signature"), RFC_8032)
def test_signatures_of_the_rfc_verify(public, message, signature):
    """The vectors of RFC 8032; a scalar that is not reduced is refused, though it would fulfil the equation."""
    public, message, signature = map(bytes.fromhex, (public, message, signature))
    assert verify_bundle.ed25519_verifies(public, signature, message)
    scalar = int.from_bytes(signature[32:], "little") + verify_bundle._L
    assert not verify_bundle.ed25519_verifies(public, signature[:32] + scalar.to_bytes(32, "little"), message)
    for cut in (public[:31], signature[:63]):
        assert not verify_bundle.ed25519_verifies(cut if cut == public[:31] else public, signature[:63], message)


@given(st.integers(1, 200), st.integers(0, 199))
def test_the_tree_is_that_of_the_engine(size, index):
    """Roots and inclusion proofs agree; a proof of one place is none of another."""
    leaves = [hashlib.sha256(b"%d" % number).digest() for number in range(size)]
    tree = verify_bundle.Tree()
    for leaf in leaves:
        tree.append(leaf)
    root = merkle.Frontier().extend(leaves).root()
    assert tree.root() == root

    def node(level, number):
        return merkle.Frontier().extend(leaves[number << level : (number + 1) << level]).root()

    index %= size
    path = merkle.inclusion_path(index, size, node)
    assert verify_bundle.root_of_path(leaves[index], index, size, path) == root
    assert verify_bundle.root_of_path(leaves[index], index, size, [*path, root]) is None
    assert verify_bundle.root_of_path(leaves[index], index ^ 1, size, path) != root or size == 1
    assert verify_bundle.root_of_path(leaves[index], size, size, path) is None


def test_a_witness_signature_is_known():
    """A cosignature (type 4) verifies over time and text; over another time it does not."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    verifier = Verifier("witness.example", COSIGNATURE, key.public_key().public_bytes_raw())
    text, time = "origin\n1\nroot\n", (1_800_000_000).to_bytes(8, "big")
    signature = key.sign(b"cosignature/v1\ntime 1800000000\n" + text.encode())
    known = verify_bundle.Key(str(verifier))
    assert known.signed(text, [("witness.example", verifier.key_id + time + signature)])
    assert not known.signed(text, [("witness.example", verifier.key_id + bytes(8) + signature)])
    assert not known.signed(text, [("another", verifier.key_id + time + signature)])
    assert not known.signed(text, [])


@pytest.mark.parametrize("text", ["", "a", "a+b", "a+00000000+AQ==", "a+00000000+" + "A" * 44, "+1+2"])
def test_what_is_no_key_is_refused(text):
    """Another type, another length, another hash: no key."""
    with pytest.raises(ValueError, match=r"."):
        verify_bundle.Key(text)


# --- the transcript ---------------------------------------------------------------------------------------------------

NASTY = (
    "<script>alert(1)</script>",
    '<img src="https://example.com/x.png" onerror=alert(1)>',
    "![x](https://example.com/x.png)",
    "a\rb\r\n# not a heading\n\n\n    code\n```\n</pre><h1>",
    "left \u202eright\u202c \u2066x\u2069 \u200f",
    "\x00\x07\x1b[31mred\x7f\x85",
    "&lt;b&gt; &amp;",
    "\u2028\u2029\ufeff",
)


@given(st.text() | st.sampled_from(NASTY))
def test_no_text_becomes_markup(text):
    """In HTML every character of it is text; in Markdown each of its lines is indented, that is code; and nothing
    that hides or turns round is left.
    """
    event = {"type": "message.appended", "version": 1, "recorded_at": 0, "facts": {"role": "user", "complete": True}}
    event |= {"body": "", "actor": "local", "session": "s"}
    words = {"content": [{"type": "text", "text": text}]}
    markdown, page = verify_bundle.transcript_of(event, words, with_session=False)
    heading, pre = page.split("</h2>\n")
    assert heading == "<h2>#1 user, 1970-01-01 00:00:00 UTC"
    inner = pre.removeprefix("<pre>\n").removesuffix("</pre>\n")
    assert not re.search("[<>\"']", inner)
    assert re.fullmatch("(?:[^&]|&(?:amp|lt|gt|quot|#x27);)*", inner, re.DOTALL)
    _, _, code = markdown.partition("UTC\n\n")
    assert all(line.startswith("    ") for line in code.removesuffix("\n").split("\n"))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\u2066-\u2069]", markdown)


BLOCKS = [
    ({"type": "thinking", "text": "hm"}, "[thinking]\nhm"),
    (
        {"type": "tool_use", "id": "1", "name": "look", "input": {"b": 1, "a": "é"}},
        '[asks for look]\n{"a": "é", "b": 1}',
    ),
    ({"type": "tool_use", "id": "1", "name": "look", "input_text": '{"a'}, '[asks for look]\n{"a'),
    ({"type": "tool_result", "tool_use_id": "1", "content": "rain"}, "[result of 1]\nrain"),
    (
        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "x"}], "is_error": True},
        "[error of 1]\nx",
    ),
    ({"type": "odd", "n": 1}, '{"n": 1, "type": "odd"}'),
]


@pytest.mark.parametrize(("block", "text"), BLOCKS)
def test_every_block_is_told(block, text):
    """Also those of a type that nobody knows."""
    assert verify_bundle._block(block) == text


# --- FORMAT.md --------------------------------------------------------------------------------------------------------


def example(name):
    """A code block of the page by the second word of its fence."""
    return re.search(rf"^```\w+ {name}\n(.*?)^```$", FORMAT, re.DOTALL | re.MULTILINE)[1]


def test_the_example_of_the_format_is_true():
    """Every step of the page's example, with other implementations where there are any."""
    line, leaf = example("event").rstrip("\n"), example("leaf").rstrip("\n")
    event = json.loads(line)
    assert rfc8785.dumps(event).decode() == line
    words = event["body"].encode()
    assert hashlib.sha256(bytes.fromhex(event["salt"]) + words).hexdigest() == event["commitment"]
    assert len(words) == event["length"]
    assert rfc8785.dumps({name: event[name] for name in event.keys() - {"salt", "body"}}).decode() == leaf
    digest = bytes.fromhex(example("leaf-hash").strip())
    assert codec.leaf_hash(leaf.encode()) == digest
    checkpoint = verify_bundle.Checkpoint(example("checkpoint"))
    path = [bytes.fromhex(each) for each in json.loads(example("proof"))]
    assert merkle.verify_inclusion(digest, event["position"] - 1, checkpoint.size, path, checkpoint.root)
    key = verify_bundle.Key(example("key").strip())
    assert key.name == checkpoint.origin == event["origin"]
    assert key.signed(checkpoint.text, checkpoint.signatures)


def test_the_format_names_every_file_and_member():
    """What the verifier asks for is on the page."""
    names = {verify_bundle.MANIFEST, verify_bundle.EVENTS, verify_bundle.LEAVES, verify_bundle.PROOFS}
    names |= {verify_bundle.CHECKPOINTS, verify_bundle.KEYS, *verify_bundle.TRANSCRIPTS, FILE.name, "FORMAT.md"}
    names |= {*verify_bundle.EVENT_FIELDS, *verify_bundle.MANIFEST_FIELDS}
    assert [name for name in names if f"`{name}`" not in FORMAT] == []
    assert set(verify_bundle.LEAF_FIELDS) == set(codec.Leaf.__struct_fields__)
