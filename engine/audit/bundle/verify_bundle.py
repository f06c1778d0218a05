#!/usr/bin/env python3
"""Verify a bundle that Manent exported: every event in it is what was recorded, and the log's signature covers it.

    python3 verify_bundle.py BUNDLE.zip --key KEY [--witness KEY]...

This file stands alone: Python 3.11's standard library, no database, no network. FORMAT.md, beside it in every bundle,
says what is checked and why, and what the verdict, its first line, means: how far the bundle was checked. Whoever makes
up a bundle makes up keys, and a verifier, to go with it: take this file and the log's key from elsewhere.

Exit codes: 0 the bundle is consistent, and signed by each --key; 1 it is not, and the first broken position is named;
2 wrong use.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import reduce
from itertools import chain
from typing import IO, Any

FORMAT, OF_FORKS, LEAF_FORMAT, DOCUMENT = "manent-bundle/1", "manent-bundle/2", "manent/1", "documents/{}.json"
MAX_LINE_BYTES, MAX_VERSION = 1 << 28, 1 << 53
MANIFEST, EVENTS, LEAVES, PROOFS = "manifest.json", "events.jsonl", "leaves.txt", "proofs.jsonl"
CHECKPOINTS, KEYS, TRANSCRIPTS = "checkpoints.jsonl", "keys.txt", ("transcript.md", "transcript.html")
LOG, WITNESS = 1, 4
LEAF_FIELDS = "actor causation commitment correlation facts format id length origin position recorded_at".split()
LEAF_FIELDS += "schema session tenant type version".split()
EVENT_FIELDS = sorted((*LEAF_FIELDS, "body", "salt"))
MANIFEST_FIELDS = ["events", "files", "format", "kind", "lineage", "names", "session", "size", "tenant"]
FIELDS_OF = {OF_FORKS: MANIFEST_FIELDS, FORMAT: [name for name in MANIFEST_FIELDS if name != "lineage"]}
FILES = {EVENTS, LEAVES, PROOFS, CHECKPOINTS, KEYS, *TRANSCRIPTS, "verify_bundle.py", "FORMAT.md"}


class Broken(Exception):
    """The bundle is not good: what is wrong with it, and the first broken position, where one can be named."""

    def __str__(self) -> str:
        return ": ".join([*(f"position {position}" for position in self.args[1:]), str(self.args[0])])


def canonical(value: object) -> bytes:
    """RFC 8785, for what may stand in a leaf: ASCII keys, text, integers within 2^53, true, false and null."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode()


def parse(line: bytes) -> Any:
    """JSON, if it is canonical: ValueError for a blank, a float or a key that comes twice."""
    value = json.loads(line, parse_float=str, parse_constant=str)
    if canonical(value) != line:
        raise ValueError("is not canonical JSON")
    return value


def leaf_hash(event: dict[str, Any]) -> bytes:
    return hashlib.sha256(b"\x00" + canonical({name: event[name] for name in LEAF_FIELDS})).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A Merkle tree that grows: its size, and the roots of its complete subtrees, the largest first."""

    def __init__(self) -> None:
        self.size, self.roots = 0, list[bytes]()

    def append(self, leaf: bytes) -> None:
        rest = self.size
        while rest & 1:
            leaf, rest = node_hash(self.roots.pop(), leaf), rest >> 1
        self.roots.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        return reduce(lambda right, left: node_hash(left, right), reversed(self.roots))


def root_of_path(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    """The root that an inclusion proof leads to (RFC 9162 section 2.1.3); None if it is no proof of this place."""
    if not 0 <= index < size or bool(path) != (size > 1):
        return None
    if size == 1:
        return leaf
    half = 1 << (size - 1).bit_length() - 1
    if index < half:
        return (found := root_of_path(leaf, index, half, path[:-1])) and node_hash(found, path[-1])
    return (found := root_of_path(leaf, index - half, size - half, path[:-1])) and node_hash(path[-1], found)


_P, _L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_1 = pow(2, (_P - 1) // 4, _P)
_Point = tuple[int, int, int, int]


def ed25519_verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """RFC 8032 section 5.1.7."""
    key, commitment, scalar = _decode(public), _decode(signature[:32]), int.from_bytes(signature[32:], "little")
    if key is None or commitment is None or scalar >= _L or len(public) != 32 or len(signature) != 64:
        return False
    digest = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % _L
    one, other = _times(scalar, _BASE), _add(commitment, _times(digest, key))
    return not ((one[0] * other[2] - other[0] * one[2]) % _P or (one[1] * other[2] - other[1] * one[2]) % _P)


def _decode(data: bytes) -> _Point | None:
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    x = x * _ROOT_OF_MINUS_1 % _P if (x * x - square) % _P else x
    if y >= _P or (x * x - square) % _P or (x == 0 and sign):
        return None
    x = _P - x if x & 1 != sign else x
    return x, y, 1, x * y % _P


def _add(one: _Point, other: _Point) -> _Point:
    a, b = (one[1] - one[0]) * (other[1] - other[0]) % _P, (one[1] + one[0]) * (other[1] + other[0]) % _P
    c, d = 2 * one[3] * other[3] * _D % _P, 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a  # RFC 8032 section 5.1.4
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, point: _Point) -> _Point:
    product = (0, 1, 1, 0)
    while scalar:
        product = _add(product, point) if scalar & 1 else product
        point, scalar = _add(point, point), scalar >> 1
    return product


_BASE: _Point = _decode((4 * pow(5, -1, _P) % _P).to_bytes(32, "little")) or (0, 0, 0, 0)


class Key:
    """A verifier key, ``name+hash+key`` (C2SP signed-note): that of a log, or of a witness."""

    def __init__(self, text: str, *kinds: int) -> None:
        self.text, (self.name, key_id, key, *_) = text, [*text.split("+", 2), "", ""]
        data = _unbase64(key)
        self.kind, self.public = data[0] if data else 0, data[1:]
        self.id = hashlib.sha256(self.name.encode() + b"\n" + data).digest()[:4]
        known = self.kind in (kinds or (LOG, WITNESS))
        if not known or len(self.public) != 32 or self.id.hex() != key_id or not self.name:
            raise ValueError(f"{text!r} is not a verifier key, or one of another kind")

    def named(self, signatures: list[tuple[str, bytes]]) -> list[bytes]:
        """The signatures that are in this key's name, whoever made them."""
        return [data[4:] for name, data in signatures if (name, data[:4]) == (self.name, self.id)]

    def signed(self, text: str, signatures: list[tuple[str, bytes]]) -> bool:
        """True if there is a signature by this key, and no bad one in its name."""
        return bool(mine := self.named(signatures)) and all(self._verifies(text, data) for data in mine)

    def _verifies(self, text: str, data: bytes) -> bool:
        if self.kind == WITNESS:
            text, data = f"cosignature/v1\ntime {int.from_bytes(data[:8], 'big')}\n{text}", data[8:]
        return ed25519_verifies(self.public, data, text.encode())


class Checkpoint:
    """A signed note that states a log's origin, size and root (C2SP tlog-checkpoint)."""

    def __init__(self, note: str) -> None:
        text, _, rest = note.rpartition("\n\n")
        self.text = text + "\n"
        self.origin, size, root, *_ = self.text.split("\n")
        self.size, self.root = int(size), _unbase64(root)
        self.signatures = [(line.split(" ")[1], _unbase64(line.split(" ")[2])) for line in rest.split("\n")[:-1]]


def _unbase64(text: str) -> bytes:
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("holds base64 that is not written the usual way")
    return data


_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_HTML = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Transcript</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>body{max-width:50rem;margin:auto}h2{font-size:1rem}pre{font:inherit;white-space:pre-wrap}</style></head><body>
"""
TRANSCRIPT_HEAD, TRANSCRIPT_TAIL = ("# Transcript\n", _HTML), ("", "</body></html>\n")
_ENDS = {"turn.failed": "detail", "turn.cancelled": "", "turn.interrupted": "", "body.erased": "reason"}


def transcript_of(event: dict[str, Any], words: dict[str, Any], *, with_session: bool) -> tuple[str, str]:
    """An event's piece of the transcript, in Markdown and HTML: what people read is derived from what is proved."""
    if (told := _told(event, words)) is None:
        return "", ""
    moment = datetime(1970, 1, 1) + timedelta(microseconds=event["recorded_at"])  # noqa: DTZ001 - UTC, by hand
    session = f"{event['session']} " if with_session else ""
    heading = f"{session}#{event['version']} {told[0]}, {moment.isoformat(sep=' ', timespec='seconds')} UTC"
    title, texts = html.escape(visible(heading)), [visible(text) for text in told[1]]
    # A code block and <pre>: nothing in them is markup, neither of Markdown nor of HTML.
    code = "".join("\n" + "".join(f"    {line}\n" for line in text.split("\n")) for text in texts)
    pres = "".join(f"<pre>\n{html.escape(text)}</pre>\n" for text in texts)
    return f"\n## {title}\n{code}", f"<h2>{title}</h2>\n{pres}"


def visible(text: str) -> str:
    """Text in which characters that hide, command or turn others round are written out."""
    return _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _told(event: dict[str, Any], words: dict[str, Any]) -> tuple[str, list[str]] | None:
    kind, facts = event["type"], event["facts"]
    gone = ["[erased]"] if event["body"] is None else []
    if kind == "message.appended":
        marks = "" if facts["complete"] else " (incomplete)"
        return f"{facts['role']}{marks}", gone or [_block(block) for block in words["content"]]
    if kind in {"session.started", "session.updated"}:
        names = [name for name in ("title", "system", "metadata") if words.get(name) is not None]
        return kind, gone + [f"{name}: {_plain(words[name])}" for name in names]
    if kind in _ENDS:
        return f"{kind} by {event['actor']}", gone + [str(words[name]) for name in words if name == _ENDS[kind]]
    return None


def _block(block: dict[str, Any]) -> str:
    match block:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "thinking", "text": str(text)}:
            return f"[thinking]\n{text}"
        case {"type": "tool_use", "name": name}:
            return f"[asks for {name}]\n{_plain(block.get('input', block.get('input_text')))}"
        case {"type": "tool_result", "tool_use_id": call}:
            content = block.get("content", "")
            parts = [content] if isinstance(content, str) else [_block(part) for part in content]
            return "\n".join([f"[{'error' if block.get('is_error') else 'result'} of {call}]", *parts])
    return _plain(block)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


class Bundle:
    """A bundle, and what is found in it. ``erased``: position -> (where it is told, by whom, why). ``witnessed``: how
    many of the witnesses given signed the last checkpoint; ``cosigned``: how many others are said to have. ``ends``:
    the version up to which each session has a part in a history; ``spans``: the first and last version of each so far.
    """

    def __init__(self, file: str | IO[bytes]) -> None:
        self.zip = zipfile.ZipFile(file)
        names = self.zip.namelist()
        if not {each.compress_type for each in self.zip.infolist()} <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise Broken("a file is neither stored nor deflated")
        self.manifest = dict(parse(self.zip.open(MANIFEST).read(MAX_LINE_BYTES))) if MANIFEST in names else {}
        if sorted(self.manifest) != FIELDS_OF.get(str(self.manifest.get("format"))):
            raise Broken(f"there is no {MANIFEST} of {FORMAT} or {OF_FORKS}")
        if sorted([MANIFEST, *self.manifest["files"]]) != sorted(names):
            raise Broken(f"the files are not those that {MANIFEST} names")
        kind, session = self.manifest["kind"], self.manifest["session"]
        if (kind, isinstance(session, str), session is None) not in {("session", True, False), ("log", False, True)}:
            raise Broken(f"{MANIFEST} is neither of a session nor of a whole log")
        self.whole, self.tree, self.last, self.time, self.late = kind == "log", Tree(), 0, 0, False
        self.witnessed, self.cosigned, self.lineage = 0, 0, self.manifest.get("lineage", [])
        self.ends = {each["session"]: each["up_to"] for each in self.lineage} | {session: MAX_VERSION}
        self.spans, self.told, self.here = dict[str, tuple[int, int]](), list[dict[str, Any]](), set[int]()
        self.gone, self.erased = set[int](), dict[int, tuple[int, str, str]]()
        self.keys = [Key(line.decode()) for line in self.lines(KEYS)]
        self.checkpoints = [Checkpoint(parse(line)["note"]) for line in self.lines(CHECKPOINTS)]
        self.newest, self.roots = self.checkpoints[-1], dict[int, set[bytes]]()
        self.named, self.faded, self.listed = dict[str, int](), dict[str, int](), dict[str, int]()
        for each in self.checkpoints:
            self.roots.setdefault(each.size, set()).add(each.root)

    def lines(self, name: str) -> Iterator[bytes]:
        with self.zip.open(name) as file:
            while line := file.readline(MAX_LINE_BYTES):
                if not line.endswith(b"\n"):
                    raise Broken(f"{name}: the last line has no end")
                yield line[:-1]

    def signers(self, checkpoint: Checkpoint) -> list[Key]:
        """Those of the bundle's own keys that signed a checkpoint of the log."""
        own = [key for key in self.keys if (key.name, key.kind) == (checkpoint.origin, LOG)]
        return [key for key in own if key.signed(checkpoint.text, checkpoint.signatures)]

    def check_signatures(self, trusted: list[Key], witnesses: list[Key]) -> None:
        """A witness counts once, by whatever names it goes; one that has not signed is missing, and not wrong."""
        for each in self.checkpoints:
            if not self.signers(each):
                raise Broken(f"the checkpoint of size {each.size} has no good signature by the log's key")
        signed = [key for key in witnesses if key.named(self.newest.signatures)]
        for key in (*trusted, *signed):
            if not key.signed(self.newest.text, self.newest.signatures):
                raise Broken(f"the checkpoint has no good signature by {key.text}")
        named = {(name, data[:4]) for name, data in self.newest.signatures if name != self.newest.origin}
        self.witnessed = len({key.public for key in signed})
        self.cosigned = len(named - {(key.name, key.id) for key in signed})
        if (self.newest.size, self.newest.origin) != (self.manifest["size"], self.manifest["names"][-1][1]):
            raise Broken(f"the checkpoint is not of the size and name that {MANIFEST} states")

    def check_digests(self) -> None:
        for name, expected in self.manifest["files"].items():
            if name not in {*FILES, *map(DOCUMENT.format, self.named)}:
                raise Broken(f"{name} is no file of a bundle, and no event names it")
            with self.zip.open(name) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:  # type: ignore[arg-type]
                    raise Broken(f"{name} is not the file that {MANIFEST} names")

    def check_events(self) -> None:
        leaves, proofs, digests = self.lines(LEAVES), self.lines(PROOFS), [hashlib.sha256(), hashlib.sha256()]
        events = (self.check_event(line, leaves, proofs) for line in self.lines(EVENTS))
        for pieces in chain([TRANSCRIPT_HEAD], events, [TRANSCRIPT_TAIL]):
            for digest, piece in zip(digests, pieces, strict=True):
                digest.update(piece.encode())
        for digest, name in zip(digests, TRANSCRIPTS, strict=True):
            if digest.hexdigest() != self.manifest["files"][name]:
                raise Broken(f"{name} is not what the events say")
        if self.manifest["events"] != (self.last if self.whole else len(self.here)) or next(leaves, None) is not None:
            raise Broken(f"events are missing: there should be {self.manifest['events']}", self.last + 1)
        if self.whole and self.last != self.newest.size:
            raise Broken(f"the checkpoint is of {self.newest.size} events", self.last + 1)
        if wrong := self.gone.symmetric_difference(self.erased):
            here = min(wrong) in self.erased
            raise Broken("was erased, and its words are here" if here else "has no body, and no erasure", min(wrong))
        self.check_erased_documents()
        if canonical(self.told) != canonical(self.lineage):
            raise Broken(f"the lineage in {MANIFEST} is not the one that the events tell")

    def check_event(self, line: bytes, leaves: Iterator[bytes], proofs: Iterator[bytes]) -> tuple[str, str]:
        """An event's piece of the transcripts, once the event is seen to be the one that was recorded at its place."""
        place, _, hexdigest = next(leaves, b"%d " % (self.last + 1)).decode().partition(" ")
        try:
            event = parse(line)
            leaf = leaf_hash(event)
            if (str(event["position"]), leaf.hex()) != (place, hexdigest):
                raise Broken(f"the event is not the leaf in {LEAVES}", int(place))
            self.check_place(event)
            words, elsewhere = self.words_of(event), event["session"] != self.manifest["session"]
            self.check_leaf(leaf, event["position"], [] if self.whole else parse(next(proofs)))
            return transcript_of(event, words, with_session=elsewhere)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, StopIteration) as error:
            raise Broken(f"cannot be read: {error!r}", int(place)) from None

    def check_place(self, event: dict[str, Any]) -> None:
        position, session, version, kind = (event[name] for name in ("position", "session", "version", "type"))
        names = [name for first, name in self.manifest["names"] if first <= position]
        expected = (sorted(event), event["format"], event["tenant"], event["origin"])
        if expected != (EVENT_FIELDS, LEAF_FORMAT, self.manifest["tenant"], names[-1]):
            raise Broken("the event does not belong here: format, log or tenant are others", position)
        if position != self.last + 1 if self.whole else position <= self.last or session not in self.ends:
            raise Broken("the event does not follow the one before", position)
        if event["recorded_at"] < self.time:
            raise Broken("the event is older than the one before", position)
        first, last = self.begun(event) if kind == "session.forked" else self.spans.get(session, (1, 0))
        end = self.ends.get(session, MAX_VERSION)
        # After the part that a fork shares, a session's events are there only where they erased something of what is.
        self.late = last >= end and kind == "body.erased" and not self.here.isdisjoint(event["facts"]["targets"])
        if not (last < version if self.late else last + 1 == version <= end):
            raise Broken(f"the event does not belong here: version {version} after {last} of its session", position)
        if kind == "attempt.started" and (named := event["facts"].get("tools")):
            self.check_document(named, event)
        self.spans[session], self.last, self.time = (first, version), position, event["recorded_at"]
        self.here |= set() if self.whole else {position}

    def begun(self, event: dict[str, Any]) -> tuple[int, int]:
        """The versions before the first of a fork's: its parent has the last of them, and had it before."""
        session, parent, version = event["session"], event["facts"]["parent"], event["facts"]["parent_version"]
        first, last = self.spans.get(parent, (1, 0))
        if session in self.spans or not first <= version <= last:
            raise Broken(f"forks version {version} of {parent}, which does not stand before it", event["position"])
        self.told += [] if self.whole else [{"session": parent, "up_to": version}]
        return version + 1, version

    def check_document(self, digest: str, event: dict[str, Any]) -> None:
        """A document that an event names is here; from schema 2 on it has gone if all that name it are erased."""
        if event["schema"] > 1 and event["body"] is None:
            self.faded[digest] = event["position"]
        elif self.manifest["files"].get(name := DOCUMENT.format(digest)) == digest:
            self.named.setdefault(digest, event["schema"])
        else:
            raise Broken(f"{name}, which the event names, is missing or another", event["position"])

    def check_erased_documents(self) -> None:
        """In a whole log an erasure lists every document that is gone; in a session's that may be another session's."""
        gone = self.faded.keys() - self.named.keys()
        for digest in sorted(gone - self.listed.keys() if self.whole else ()):
            raise Broken(f"{DOCUMENT.format(digest)} is not here, and no erasure lists it", self.faded[digest])
        for digest, position in sorted(self.listed.items()):
            if digest not in gone or self.faded[digest] > position:
                raise Broken(f"{DOCUMENT.format(digest)} is listed as erased, and is named after all", position)

    def words_of(self, event: dict[str, Any]) -> dict[str, Any]:
        """The words, once they are seen to be those that the leaf commits to; none where they are erased."""
        position, body, salt = event["position"], event["body"], event["salt"]
        if body is None and salt is None:
            self.gone.add(position)
            words = {}
        else:
            data = body.encode() if isinstance(body, str) else _unbase64(body["base64"])
            digest = hashlib.sha256(bytes.fromhex(salt) + data).hexdigest()
            if (digest, len(data), len(salt), salt) != (event["commitment"], event["length"], 32, salt.lower()):
                raise Broken("the words are not those that were recorded", position)
            words = json.loads(data.decode(errors="replace") or "{}")
        if event["type"] == "body.erased":
            why = (position, str(event["actor"]), str(words.get("reason", "the reason is erased")))
            targets, documents = set(event["facts"]["targets"]), set(event["facts"].get("documents", ()))
            self.erased |= dict.fromkeys(targets & self.here if self.late else targets, why)
            self.listed |= dict.fromkeys(documents & self.faded.keys() if self.late else documents, position)
        return words

    def check_leaf(self, leaf: bytes, position: int, path: list[str]) -> None:
        hashes, size = list(map(bytes.fromhex, path)), self.newest.size
        if self.whole:
            self.tree.append(leaf)
            if position in self.roots and self.roots[position] != {self.tree.root()}:
                raise Broken("the log up to here is not the one that was signed", position)
        elif list(map(bytes.hex, hashes)) != path or root_of_path(leaf, position - 1, size, hashes) != self.newest.root:
            raise Broken("the event is not in the log that was signed", position)


def verify(file: str | IO[bytes], trusted: list[Key], witnesses: list[Key] | None = None) -> Bundle:
    """A bundle that is consistent, and signed by every key that is trusted. Raises Broken."""
    try:
        bundle = Bundle(file)
        bundle.check_signatures(trusted, witnesses or [])
        bundle.check_events()
        bundle.check_digests()
    except (zipfile.BadZipFile, zlib.error, EOFError, LookupError, ValueError, TypeError, RuntimeError) as error:
        raise Broken(f"the bundle cannot be read: {error!r}") from None
    return bundle


def verdict_on(bundle: Bundle, trusted: list[Key], witnesses: list[Key]) -> str:
    """How far a good bundle was checked. No word of it is the bundle's own."""
    words = ["consistent", f"signed by {', '.join(key.text for key in trusted)}" if trusted else "signer not checked"]
    given = len({key.public for key in witnesses})
    if given:
        words.append(f"witnessed by {bundle.witnessed}{f' of {given} given' if bundle.witnessed < given else ''}")
    if bundle.cosigned:
        words.append(f"cosigned{f' by {bundle.cosigned} more' if given else ''}, witnesses not checked")
    if not trusted:
        words[-1] += ": nobody's key was checked; get the log's key elsewhere, and give it with --key"
    return ", ".join(words)


def say(text: str) -> None:
    """Print one line: nothing in a bundle can begin another, hide one, or turn it round."""
    encoding = sys.stdout.encoding or "ascii"
    print(visible(text).replace("\n", "\\n").encode(encoding, "backslashreplace").decode(encoding))


def tell(bundle: Bundle) -> None:
    """Describe a good bundle."""
    manifest = bundle.manifest
    what = "whole log" if bundle.whole else f"session {manifest['session']}"
    say(f"{what} of {manifest['tenant']}, {manifest['events']} events of {bundle.newest.size}")
    for each in bundle.lineage:
        say(f"which shares the history of session {each['session']} up to version {each['up_to']}")
    for by, actor, reason in sorted(set(bundle.erased.values())):
        gone = [position for position in sorted(bundle.gone) if bundle.erased[position][0] == by]
        say(f'erased: {", ".join(map(str, gone))}: by {actor} at {by}: "{reason}"')


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Verify a bundle that Manent exported.")
    parser.add_argument("bundle")
    parser.add_argument("--key", action="append", default=[], help="the log's, got elsewhere: it must have signed")
    parser.add_argument("--witness", action="append", default=[], metavar="KEY", help="is counted if it has signed")
    arguments = parser.parse_args(given)
    try:
        trusted, witnesses = (
            [Key(each, LOG) for each in arguments.key],
            [Key(each, WITNESS) for each in arguments.witness],
        )
        bundle = verify(arguments.bundle, trusted, witnesses)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except Broken as error:
        say(f"BROKEN: {error}")
        return 1
    say(verdict_on(bundle, trusted, witnesses))
    tell(bundle)
    if not trusted:
        say("it brings the key that it is signed with, which proves nothing until you have compared it:")
        for key in bundle.signers(bundle.newest):
            say(f"  {key.text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
