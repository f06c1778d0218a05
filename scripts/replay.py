#!/usr/bin/env python3
"""Plays a recorded conversation back, or holds it once more on another model: ``manent replay``, under its old name.

    scripts/replay.py SESSION [--pace 1x|4x|0]     is manent replay SESSION --mode play
    scripts/replay.py SESSION --model MODEL        is manent replay SESSION --mode free --model MODEL

Other options are those of ``manent replay``, and so are its exit codes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

VENV = Path(__file__).resolve().parent.parent / ".venv"

try:
    from manent.api.cli.main import run
    from manent.api.cli.replay.command import replay
except ModuleNotFoundError as error:
    if error.name not in {"click", "manent"}:
        raise
    # Started with some other Python: go on with the one that scripts/serve and scripts/test make.
    if Path(sys.prefix) != VENV and (VENV / "bin/python").exists():
        os.execv(VENV / "bin/python", [str(VENV / "bin/python"), *sys.argv])  # noqa: S606 - no shell is wanted
    print("manent: run scripts/serve or scripts/test first: they make the environment", file=sys.stderr)
    sys.exit(2)


def with_mode(given: list[str]) -> list[str]:
    """The arguments, with the mode that they mean."""
    if any(each.partition("=")[0] == "--mode" for each in given):
        return given
    return [*given, "--mode", "free" if any(each.partition("=")[0] == "--model" for each in given) else "play"]


if __name__ == "__main__":
    sys.argv[1:] = with_mode(sys.argv[1:])
    run(replay, "scripts/replay.py")
