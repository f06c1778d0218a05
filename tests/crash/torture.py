"""How long the faults go on: once in the suite, ``TORTURE`` times as long by ``scripts/torture``; and their seed."""

import os
import random

TIMES = int(os.environ.get("TORTURE", "1"))
SEED = int(os.environ.get("TORTURE_SEED", "5"))
LIMIT_S = 400 * TIMES
"""For a machine that has much else to do; alone, the longest takes a minute."""


def chance_of(name):
    """The same chances for a name and a seed."""
    return random.Random(f"{name}/{SEED}")
