#!/usr/bin/env python3
"""Explains an answer: the exact request that a model was sent, derived from the record again, and why each message was
in its window.

    scripts/examples/explain.py [DATABASE]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from manent import engine


def main(path: Path) -> None:
    with engine.open_sync(path) as chat:
        session = chat.create_session(model="echo/echo", system="Be brief.")
        for number in range(12):
            chat.say(session.id, f"This is question {number}, and it is not a short one.")
        turn = chat.say(session.id, "And the last?", budget_tokens=150)

        prompt = chat.explain(turn.id)
        print(f"{len(prompt.request_bytes)} bytes by {prompt.renderer}, as they were sent: {prompt.matches}")
        for item in prompt.window.included:
            print(f"  version {item.version:3}  {item.role:9} {item.tokens:3} tokens  in: {item.reason}")
        left = prompt.window.omitted
        print(f"  {left.count} messages of {left.tokens} tokens are out: {', '.join(left.by_reason)}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/chat.db"))
