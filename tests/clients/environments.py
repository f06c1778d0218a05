"""Environments for other projects' clients, each beside the project's own, so that what a client needs never gets into
that. They are made once and kept in the user's cache; where one cannot be made its tests are skipped, loudly.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import venv
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CONSTRAINTS = HERE / "constraints.txt"
PACKAGE = HERE / "js" / "package.json"
INSTALL_S = 600


@cache
def python_with(client):
    """The Python of an environment that holds a client. Skips the test if there can be none."""
    with _home(client, CONSTRAINTS) as (home, is_made):
        python = home / "bin" / "python"
        if not is_made:
            venv.create(home, clear=True, with_pip=True)
            pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
            _run(client, [*pip, "install", "--quiet", "--constraint", CONSTRAINTS, client])
        return python


@cache
def node_modules():
    """The folder in which the JavaScript clients are installed. Skips the test if there can be none."""
    for command in ("node", "npm"):
        if shutil.which(command) is None:
            pytest.skip(f"NOT SHOWN: clients in JavaScript. There is no {command}")
    with _home("js", PACKAGE) as (home, is_made):
        if not is_made:
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
            shutil.copy(PACKAGE, home)
            options = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--prefix", home]
            _run("JavaScript", ["npm", "install", *options])
        return home


@cache
def node(least):
    """The command of a Node that is not older than this, beside the clients: the one that they bring, or the system's.
    Skips the test if there can be none.
    """
    modules = node_modules() / "node_modules"
    for command in (*modules.glob("node-*/bin/node"), "node"):
        told = subprocess.run([command, "--version"], check=False, capture_output=True, text=True)
        if told.returncode == 0 and int(told.stdout.removeprefix("v").partition(".")[0]) >= least:
            return command
    pytest.skip(f"NOT SHOWN: clients that need Node {least}. The package that brings it is not for this system")


def _run(client, command):
    """Run an installer. Skips the test where it fails: without a registry there is nothing to be shown."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.SubprocessError as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1:]
        pytest.skip(f"NOT SHOWN: clients of {client}. They could not be installed: {' '.join(said)}")


@contextmanager
def _home(name, versions):
    """The folder of an environment with these versions, and whether it is whole; nobody else makes it meanwhile."""
    digest = hashlib.sha256(versions.read_bytes()).hexdigest()[:12]
    home = _cache() / f"{name}-{digest}"
    home.parent.mkdir(parents=True, exist_ok=True)
    stamp = home / "complete"
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield home, stamp.exists()
        stamp.touch()


def _cache():
    """The user's cache, or a folder for temporary files where there is no home."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "manent-clients"
    if os.environ.get("HOME"):
        return Path.home() / ".cache" / "manent-clients"
    return Path(tempfile.gettempdir()) / "manent-clients"
