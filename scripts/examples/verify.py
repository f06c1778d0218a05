#!/usr/bin/env python3
"""Proves what was said: an inclusion proof for one message, the whole file verified, and a changed byte found.

scripts/examples/verify.py [DATABASE]     a new file: one of its bytes is changed in the end
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from manent import engine


def main(path: Path) -> None:
    with engine.open_sync(path) as chat:
        session = chat.create_session(model="echo/echo")
        turn = chat.say(session.id, "I promise to pay on Monday.")
        assert turn.message is not None
        proof = chat.evidence.inclusion(session.id, turn.message.version)
        print(f"leaf {proof.position} of {proof.size} is under the signed root, by {len(proof.hashes)} hashes")
    print(f"verified: {engine.verify_database(str(path)).problem or 'every event is what was recorded'}")

    words = path.read_bytes()
    path.write_bytes(words.replace(b"on Monday", b"on Friday"))
    print(f"tampered: {engine.verify_database(str(path)).problem}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/chat.db"))
