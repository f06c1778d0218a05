"""How long the faults go on: once in the suite, ``TORTURE`` times as long by ``scripts/torture``; and their seed."""

import os
import random

TIMES = int(os.environ.get("TORTURE", "1"))
SEED = int(os.environ.get("TORTURE_SEED", "5"))
PARTS = range(min(TIMES, 4))
"""Of the longest: two may run at once, each on half of the machine."""
LIMIT_S = 400 * TIMES
"""For a machine that has much else to do; alone, the longest takes a minute."""


def share(count, part):
    """How many of so many are a part's to do."""
    return count * (part + 1) // len(PARTS) - count * part // len(PARTS)


def chance_of(name):
    """The same chances for a name and a seed."""
    return random.Random(f"{name}/{SEED}")
