"""The child process of the local model: llama.cpp's own server on a free loopback port.

``provider.py`` starts this file by its path, so it imports nothing of the engine: the child is the model and nothing
else. It reads its order on the first line of its input, answers with one line, ``{"port": …}`` or ``{"error": …}``, and
writes nothing more. It dies with its parent, however that dies: its input ends then, and on Linux the kernel kills it
too.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

MAX_ANSWER_TOKENS = 1024
_PR_SET_PDEATHSIG = 1


def main() -> None:
    _be_killed_with_parent()
    order = json.loads(sys.stdin.buffer.readline() or b"{}")
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    report = os.dup(1)
    _be_quiet()
    try:
        server = _serve(**order)
        answer = {"port": urlsplit(server.listening_address).port}
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent has to be told
        answer = {"error": f"{error.__class__.__name__}: {error}"}
    os.write(report, json.dumps(answer).encode() + b"\n")
    if "port" in answer:
        threading.Event().wait()
    os._exit(1)


def _serve(*, model: str, api_key: str, slots: int, context_tokens: int, threads: int) -> Any:
    """Serve with one cache of ``context_tokens`` for each of ``slots`` answers at once."""
    llama = importlib.import_module("xllamacpp")  # of an extra: this file is importable without it
    params = llama.CommonParams()
    params.model.path = model
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [api_key]  # other users of the machine reach the loopback address too
    params.n_parallel = slots
    params.n_ctx = slots * context_tokens
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = 0  # by default it keeps up to 8 GiB of old prompts
    params.cache_idle_slots = False
    params.n_predict = MAX_ANSWER_TOKENS  # where a request names no limit: it is small, and may never come to an end
    params.sampling.seed = 1
    params.endpoint_props = params.endpoint_slots = params.ui = False
    params.verbosity = 0
    return llama.Server(params)


def _be_killed_with_parent() -> None:
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _exit_with_parent() -> None:
    """Exit when the parent is gone: nothing is ever written to the input, so a read returns then. No clean-up: it might
    hang.
    """
    sys.stdin.buffer.read(1)
    os._exit(0)


def _be_quiet() -> None:
    """Discard what the library prints: it writes to the descriptors themselves."""
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)


if __name__ == "__main__":
    main()
