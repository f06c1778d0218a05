"""Somebody who keeps what they were shown of a log, and holds whatever they are shown later against it.

They have no more than what is handed out: verifier keys, checkpoints, and proofs as their JSON.
"""

import hashlib
import json
from collections import Counter

from manent.engine.audit.notes import parse_checkpoint, parse_note, parse_verifier, signed_by_any
from manent.engine.log import merkle


class Witness:
    """Of one log. ``roots``: size -> root, of every checkpoint that was seen; ``checked`` counts what was."""

    def __init__(self):
        self.roots = {}
        self.checked = Counter()

    def see(self, note, keys):
        """A checkpoint, signed by one of these keys: no other root was ever seen for its size. Its size."""
        note = parse_note(note)
        assert signed_by_any(note, map(parse_verifier, keys))
        stated = parse_checkpoint(note.text)
        assert self.roots.setdefault(stated.size, stated.root) == stated.root
        self.checked["checkpoints"] += 1
        return stated.size

    def include(self, proof, keys):
        """An inclusion proof: the leaf that it proves."""
        assert self.see(proof["checkpoint"], keys) == proof["size"]
        leaf_hash = hashlib.sha256(b"\x00" + proof["leaf"].encode()).digest()
        path = [bytes.fromhex(each) for each in proof["hashes"]]
        root = self.roots[proof["size"]]
        assert merkle.verify_inclusion(leaf_hash, proof["index"], proof["size"], path, root)
        leaf = json.loads(proof["leaf"])
        assert leaf["position"] == proof["position"] == proof["index"] + 1
        self.checked["inclusions"] += 1
        return leaf

    def extend(self, proof):
        """A consistency proof, between two sizes that were seen."""
        old, new = proof["from"], proof["to"]
        path = [bytes.fromhex(each) for each in proof["hashes"]]
        assert merkle.verify_consistency(old, new, self.roots[old], self.roots[new], path)
        self.checked["consistencies"] += 1
