"""Manent's speed and memory against raw sqlite3, a loopback upstream and the fastest peer, side by side in one run.

What is compared takes turns, so that a busy moment meets both; figures are medians, and the quartiles beside them are
the noise of the machine. Trust ratios, not absolute times, and neither while other things run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import appends
import console
import cpu
import dropin
import explains
import forks
import gaps
import heavy
import histories
import lists
import proofs
import readers
import replays
import responses
import resume
import sessions
import streams
from report import Figure, machine, table

Measure = Callable[..., Sequence[Figure]]

PARTS: dict[str, tuple[str, Measure]] = {
    "appends": ("durable appends of 300-byte messages", appends.measure),
    "sessions": ("long sessions", sessions.measure),
    "lists": ("lists of sessions and families", lists.measure),
    "explains": ("what a model was sent, explained", explains.measure),
    "forks": ("branches", forks.measure),
    "histories": ("histories that clients send again", histories.measure),
    "dropin": ("Chat Completions as a drop-in", dropin.measure),
    "responses": ("OpenAI's Responses as a drop-in", responses.measure),
    "heavy": ("a session of 36 MB", heavy.measure),
    "replays": ("recorded turns done again", replays.measure),
    "streams": ("streamed turns", streams.measure),
    "cpu": ("CPU of streamed deltas", cpu.measure),
    "gaps": ("what recording first costs readers", gaps.measure),
    "readers": ("readers who wait", readers.measure),
    "resume": ("taking up a stream again", resume.measure),
    "console": ("the console in a browser", console.measure),
    "proofs": ("a record that can be proved", proofs.measure),
}


def main() -> int:
    arguments = _arguments()
    failed = []
    with tempfile.TemporaryDirectory(prefix="manent-bench-", dir=arguments.folder) as name:
        folder = Path(name).resolve()
        print(machine(folder), flush=True)
        for part in arguments.parts or PARTS:
            title, measure = PARTS[part]
            begun = time.monotonic()
            try:
                figures = _in_own_folder(measure, folder / part, quick=arguments.quick)
            except Exception:  # noqa: BLE001 - one part that fails must not take the others' figures with it
                traceback.print_exc()
                failed.append(part)
                continue
            print(f"\n{table(title, figures)}\n   ({time.monotonic() - begun:.0f} s)", flush=True)
    if failed:
        print(f"bench: could not measure {', '.join(failed)}")
    return 1 if failed else 0


def _in_own_folder(measure: Measure, folder: Path, *, quick: bool) -> Sequence[Figure]:
    folder.mkdir()
    return measure(folder, quick=quick)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("parts", nargs="*", type=_part, metavar="|".join(PARTS), help="measure only these")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under a minute, and noisier")
    parser.add_argument("--folder", type=Path, help="where databases are made [the system's for temporary files]")
    return parser.parse_args()


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(PARTS)}")
    return name


if __name__ == "__main__":
    sys.exit(main())
