#!/usr/bin/env python3
"""Does a recorded conversation again: with the log as the model, which must give the same, and on another model.

scripts/examples/replay.py [DATABASE]     models: echo/echo, and one that is scripted; no key is needed
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from manent import engine

ANSWERS = [{"steps": [{"text": text}]} for text in ("Rome is old.", "And Paris?", "Rome, then.")]


def main(path: Path) -> None:
    script = path.with_name("script.json")
    script.write_text(json.dumps({"models": {"guide": ANSWERS}}), encoding="utf-8")
    with engine.open_sync(engine.Settings(database=str(path), script=str(script))) as chat:
        session = chat.create_session(model="echo/echo")
        turns = [chat.say(session.id, text) for text in ("Rome is old.", "And Oslo?", "Rome, then.")]
        chat.create_suite("cities", [turn.id for turn in turns])

        print("recorded:", *[result.verdict for result in chat.replay(session.id)])
        for result in chat.replay(suite="cities", model="scripted/guide", jobs=1):
            first = result.first_difference
            print("forced:", result.verdict, f"recorded {first.recorded!r}, now {first.now!r}" if first else "")

        replay = chat.replays(limit=1).items[0]
        chat.accept_results(replay.id, [turns[1].id])
        print("accepted:", *[result.verdict for result in chat.replay(suite="cities", model="scripted/guide")])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/chat.db"))
