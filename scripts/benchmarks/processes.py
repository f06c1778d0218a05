"""The processes of stream measurements: the upstream, a real ``manent serve``, and variants that do a part of it."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil  # type: ignore[import-untyped] # it ships no types

STOP_S = 30
LISTENING = "listening on "
MEGABYTE = 1e6


class Server:
    """A ``manent serve``, from outside."""

    def __init__(self, pid: int, port: int) -> None:
        self.port = port
        self._process = psutil.Process(pid)

    def cpu_s(self) -> float:
        """CPU seconds used so far, all threads together."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def resident_mb(self) -> float:
        return float(self._process.memory_info().rss) / MEGABYTE

    def profile(self) -> None:
        """Begin or end a profile, where the server is ``profiled``."""
        self._process.send_signal(signal.SIGUSR2)

    def create_session(self, **fields: Any) -> str:
        return self._post("/api/sessions", http.HTTPStatus.CREATED, **fields)

    def start_turn(self, model: str) -> str:
        """A turn of a new session, which nobody reads yet."""
        fields = {"content": "s0", "model": f"openai/{model}", "stream": False}
        path = f"/api/sessions/{self.create_session()}/turns"
        return self._post(path, http.HTTPStatus.ACCEPTED, {"prefer": "respond-async"}, **fields)

    def append(self, session: str, texts: Sequence[str]) -> None:
        """Append messages, by turns of a user and of a model."""
        roles = ("user", "assistant")
        messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]
        self._send(f"/api/sessions/{session}/messages", http.HTTPStatus.CREATED, messages=messages)

    def say(self, session: str, text: str) -> None:
        """Run a turn, and wait for its end."""
        self._send(f"/api/sessions/{session}/turns", http.HTTPStatus.OK, content=text)

    def _post(self, path: str, expected: int, more: Mapping[str, str] | None = None, **fields: Any) -> str:
        """The id of what was made."""
        return str(msgspec.json.decode(self._send(path, expected, more, **fields))["id"])

    def _send(self, path: str, expected: int, more: Mapping[str, str] | None = None, **fields: Any) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        headers = {"content-type": "application/json", **(more or {})}
        connection.request("POST", path, msgspec.json.encode(fields), headers=headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        if response.status != expected:
            raise RuntimeError(f"{path} was answered {body!r}")
        return body


class Variant:
    """A process that does a part of what a server does; see ``variants``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def cpu_s(self, model: str) -> float:
        """CPU seconds that it takes for one run of all streams."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{model}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended in the middle of a measurement")
        return float(line)


@contextmanager
def upstream() -> Iterator[int]:
    """The port of a running upstream."""
    with _running([sys.executable, str(_beside("upstream.py"))]) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


@contextmanager
def variant(name: str, base_url: str, streams: int, folder: Path) -> Iterator[Variant]:
    command = [sys.executable, str(_beside("variants.py")), name, base_url, str(streams), str(folder)]
    with _running(command) as process:
        yield Variant(process)


@contextmanager
def server(database: Path, base_url: str, script: str | None = None, **settings: str) -> Iterator[Server]:
    """A server with the echo model by default, on a database and a port of its own. ``script``: the one beside this
    that takes the place of the ``manent`` command. Further settings are given by their names.
    """
    own = {
        "MANENT_DATABASE": str(database),
        "MANENT_PORT": "0",
        "MANENT_LOG_LEVEL": "warning",
        "MANENT_MODEL": "echo/echo",
        "MANENT_OPENAI_BASE_URL": base_url,
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MANENT_", "OPENAI_"))}
    manent = [sys.executable, str(_beside(script))] if script else [str(Path(sys.executable).with_name("manent"))]
    command = [*manent, "serve"]
    with _running(command, inherited | own | settings) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(LISTENING):
                yield Server(process.pid, int(line.rpartition(":")[2]))
                return
        raise RuntimeError("manent serve ended before it listened")


@contextmanager
def _running(command: list[str], env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process of ours, ended with the block: politely, then not."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _beside(script: str) -> Path:
    return Path(__file__).with_name(script)
