"""The frame of a driver: it runs a client's steps one by one, and tells what came of each as one line of JSON.

A driver runs in its client's own environment, as ``python DRIVER URL LINE``; ``LINE`` is the README's, with that URL.
"""

import json
import sys
import traceback

URL, LINE = sys.argv[1:3]
KEY = "none"
PNG = "iVBORw0KGgpvZiBhIHNvcnQ="


def look(city: str) -> str:
    """Looks at the sky."""
    return f"No rain in {city}."


def play(**steps):
    """Print what each step gave, or how it failed."""
    told = {}
    for name, step in steps.items():
        try:
            told[name] = step()
        except Exception:  # noqa: BLE001 - the test shows it, and the other steps are run all the same
            told[name] = {"failed": traceback.format_exc()}
    sys.stdout.write(json.dumps(told) + "\n")


def refused(kind, ask):
    """What a client's own error says."""
    try:
        ask()
    except kind as error:
        return {"type": type(error).__name__, "status": getattr(error, "status_code", None), "message": str(error)}
    raise AssertionError("it was not refused")
