"""Runs a command and says what it took, as JSON. A process of its own, and a small one: a child counts as its own what
memory its parent had when it began.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main(command: list[str]) -> int:
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    resident = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "megabytes": resident / 1e6}))
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
