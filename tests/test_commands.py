"""How the commands in ``scripts/`` make their environment: what serving needs, and what tests need where they are run.

Each test works in a small checkout of its own, whose lock has one package for each part. These are made here, so that
nothing is fetched.
"""

import hashlib
import os
import shutil
import subprocess
import zipfile

import pytest

from tests.environment import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # up to three environments are made, on a busy machine

BACKEND = """
import zipfile
def build_editable(folder, settings=None, metadata=None):
    name = "house-1-py3-none-any.whl"
    with zipfile.ZipFile(folder + "/" + name, "w") as wheel:
        wheel.writestr("house-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: house\\nVersion: 1\\n")
        wheel.writestr("house-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("house-1.dist-info/RECORD", "")
    return name
"""
PROJECT = """
[project]
name = "house"
version = "1"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
LOCK = {"serving": ("walls", 1), "local model": ("stove", 1), "tests": ("scaffold", 1)}


class Checkout:
    """A checkout with a lock, and an index of its packages beside it."""

    def __init__(self, folder):
        self.root, self.index = folder / "check out", folder / "index"
        (self.root / "scripts").mkdir(parents=True)
        self.index.mkdir()
        shutil.copy(ROOT / "scripts/_env.sh", self.root / "scripts")
        (self.root / "backend.py").write_text(BACKEND, "utf-8")
        (self.root / "pyproject.toml").write_text(PROJECT, "utf-8")
        self.lock()

    def lock(self, **versions):
        """Write the lock: each package in this version, or in the first."""
        parts = []
        for title, (name, version) in LOCK.items():
            wheel = self._pack(name, versions.get(name, version))
            pin = f"{name}=={versions.get(name, version)} \\\n    --hash=sha256:{hashlib.sha256(wheel).hexdigest()}\n"
            parts.append(f"# {title}\n{pin}")
        (self.root / "requirements.lock").write_text("".join(parts), "utf-8")

    def _pack(self, name, version):
        path = self.index / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(zipfile.ZipInfo(f"{name}.py"), f"version = {version}\n")
            wheel.writestr(
                zipfile.ZipInfo(f"{info}/METADATA"), f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
            wheel.writestr(
                zipfile.ZipInfo(f"{info}/WHEEL"), "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "")
        return path.read_bytes()

    def start(self, *part, activated=False):
        """Begin what a command does first: ``scripts/serve`` without a part, ``scripts/test`` with ``tests``."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        if activated:
            env["PATH"] = f"{self.root / '.venv/bin'}{os.pathsep}{env['PATH']}"
        return subprocess.Popen(
            ["bash", "-c", '. scripts/_env.sh; ensure_env "$@"', "bash", *part],
            cwd=self.root,
            env=env | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.index.as_uri()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def make(self, *part, activated=False):
        """The same to its end, which must be good; what it said."""
        with self.start(*part, activated=activated) as process:
            _, said = process.communicate()
        assert process.returncode == 0, said
        return said

    def installed(self):
        """Package -> (its version, when it was installed)."""
        found = {}
        for path in self.root.glob(".venv/lib/*/site-packages/*.dist-info"):
            name, _, version = path.name.removesuffix(".dist-info").partition("-")
            if name not in {"pip", "setuptools"}:
                found[name] = (version, path.stat().st_ctime_ns)
        return found


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_serving_installs_what_serving_needs_and_tests_add_theirs(checkout):
    """Serving brings its own packages and no more; tests add to them and leave them as they are; serving again takes
    nothing away, and says nothing.
    """
    checkout.make()
    served = checkout.installed()
    assert set(served) == {"walls", "stove", "house"}
    checkout.make("tests")
    tested = checkout.installed()
    assert tested.items() >= served.items()
    assert set(tested) - set(served) == {"scaffold"}
    assert checkout.make() == checkout.make("tests") == ""
    assert checkout.installed() == tested


def test_two_commands_at_once_wait_for_each_other(checkout):
    """Of two that begin together one makes the environment, and both end well with what each needs."""
    with checkout.start() as first, checkout.start("tests") as second:
        said = first.communicate()[1] + second.communicate()[1]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert said.count("making .venv") == 1
    assert set(checkout.installed()) == {"walls", "stove", "house", "scaffold"}


def test_an_activated_environment_is_made_anew_with_the_python_it_was_made_with(checkout):
    """A stale one goes, and the Python in it with it."""
    checkout.make()
    checkout.lock(walls=2)
    assert "making .venv" in checkout.make(activated=True)
    assert versions(checkout)["walls"] == "2"


def versions(checkout):
    return {name: version for name, (version, _) in checkout.installed().items()}


def test_a_changed_lock_makes_it_anew_for_whom_it_concerns(checkout):
    """Serving does not care for what only tests need; tests do. What serving needs concerns both."""
    checkout.make("tests")
    checkout.lock(scaffold=2)
    assert checkout.make() == ""
    checkout.make("tests")
    assert versions(checkout) == {"walls": "1", "stove": "1", "house": "1", "scaffold": "2"}
    checkout.lock(scaffold=2, walls=2)
    checkout.make()
    assert versions(checkout) == {"walls": "2", "stove": "1", "house": "1"}


def test_a_moved_checkout_makes_it_anew(checkout, tmp_path):
    """The paths in an environment are absolute: it works where it was made, and nowhere else."""
    checkout.make()
    checkout.root = checkout.root.rename(tmp_path / "moved")
    assert "making .venv" in checkout.make()
    assert checkout.make() == ""
