#!/usr/bin/env python3
"""Records a conversation: every message is on disk before it is shown, and read again after the engine was closed.

scripts/examples/record.py [DATABASE]     by default a temporary one; the model is echo/echo, no key is needed
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from manent import engine


def main(path: Path) -> None:
    with engine.open_sync(path) as chat:
        session = chat.create_session(model="echo/echo", title="An example", system="Be brief.")
        for text in chat.stream(session.id, "What is said remains."):
            print(text, end="", flush=True)
        turn = chat.say(session.id, "Does it?")
        print(f"\n{turn.text}   ({turn.status}, {turn.usage.input_tokens} tokens in)")

    with engine.open_sync(path) as chat:
        for event in chat.iter_events(session.id):
            print(f"{event.version:3}  {event.type:18} {event.leaf_hash[:16]}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/chat.db"))
