#!/usr/bin/env python3
"""Edits a message and answers it again: a fork shares what came before, and both ways stay on record.

scripts/examples/fork.py [DATABASE]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from manent import engine


def main(path: Path) -> None:
    with engine.open_sync(path) as chat:
        session = chat.create_session(model="echo/echo", title="Two ways")
        chat.say(session.id, "We go to the sea.")
        before = chat.session(session.id).version
        chat.say(session.id, "By train.")

        edited = chat.start_turn(session.id, "By boat.", from_version=before)
        chat.ended(edited.turn)
        for each in (session.id, edited.session):
            said = [message.text for message in chat.iter_messages(each) if message.role == "user"]
            print(f"{each}: {' '.join(said)}")
        parent = chat.session(edited.session).parent
        print(f"shared up to version {parent.version if parent else 0}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/chat.db"))
