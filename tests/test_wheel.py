"""The wheel, as somebody has it who installs it: in another folder, among packages with our names, with no checkout.

Its environment has what serving needs, as the lock says, and nothing else: what only tests need is not there.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from types import SimpleNamespace
from urllib.request import Request, urlopen

import pytest

from manent.engine.log.sqlite.schema import newest_revision
from manent.engine.providers.local.provider import local_model_available
from manent.engine.tools.mcp.config import mcp_available
from tests.environment import ROOT, locked, make_environment
from tests.support import query

SERVED = [*locked("serving"), *locked("local model")]
OLD = ROOT / "tests/golden/manent-0004.db.gz"
HOSTILE = """
from pathlib import Path
Path("hostile").touch()
raise RuntimeError("this package is not Manent's")
"""
HOSTILE_REVISION = f"revision = '9999'\ndown_revision = None\n{HOSTILE}"
TIMEOUT_S = 60


def command(*words, cwd, env=None):
    """Run something to its end, which must be good; what it printed."""
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, env=env, capture_output=True, encoding="utf-8", timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    command(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory, wheel):
    """An environment with the wheel, and a folder with packages of our names in front of it on the path."""
    folder = tmp_path_factory.mktemp("some where else")
    site = make_environment(folder / "venv", SERVED)
    python, home = folder / "venv/bin/python", folder / "home"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    command(*pip, "install", "--no-index", "--no-deps", wheel, cwd=folder)
    for package in ("engine", "api", "migrations", "migrations/versions"):
        (home / package).mkdir(parents=True)
        (home / package / "__init__.py").write_text(HOSTILE, "utf-8")
    (home / "migrations/env.py").write_text(HOSTILE, "utf-8")
    (home / "migrations/versions/9999_hostile.py").write_text(HOSTILE_REVISION, "utf-8")
    foreign = ("MANENT_", "OPENAI_", "ANTHROPIC_", "PYTHON", "COV")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return SimpleNamespace(python=python, site=site, home=home, env=env | {"PYTHONPATH": str(home)})


@pytest.fixture
def run(elsewhere):
    """Runs something there, which must be good: the command ``manent``, if it is not ``python``."""

    def run(*words, **names):
        program = elsewhere.python if words[0] == "python" else elsewhere.python.with_name(words[0])
        return command(program, *words[1:], cwd=elsewhere.home, env=elsewhere.env | names)

    yield run
    assert not (elsewhere.home / "hostile").exists(), "a package of the user's was taken for Manent's"


@contextmanager
def serving(elsewhere, **names):
    """The address of a server there."""
    manent = [elsewhere.python.with_name("manent"), "serve", "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(manent, cwd=elsewhere.home, env=elsewhere.env | names, **pipes) as server:
        said = []
        for line in server.stdout:
            said.append(line)
            if line.startswith("listening on "):
                break
        try:
            assert said[-1].startswith("listening on "), "".join(said)
            yield said[-1].split()[-1]
        finally:
            server.terminate()


def call(address, body=None):
    """The server's answer, read as JSON."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(address, data, {"content-type": "application/json"}), timeout=TIMEOUT_S) as answer:
        return json.load(answer)


def test_the_wheel_holds_the_three_packages_below_one_name(wheel):
    """Each file of engine, api and migrations is in it, below ``manent``, and beside them what names the wheel only."""
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if not re.match(r"manent-[\w.]+\.dist-info/", name)}
    files = {
        f"manent/{path.relative_to(ROOT).as_posix()}"
        for package in ("engine", "api", "migrations")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == files
    assert {f"manent/{package}/py.typed" for package in ("engine", "api", "migrations")} <= names


def test_pytest_is_told_of_the_plugin(wheel):
    """The wheel names it, and holds it."""
    with zipfile.ZipFile(wheel) as opened:
        (place,) = [name for name in opened.namelist() if name.endswith(".dist-info/entry_points.txt")]
        told = opened.read(place).decode()
        (module,) = re.findall(r"\[pytest11\]\nmanent = (\S+)", told)
        assert f"{module.replace('.', '/')}.py" in opened.namelist()


def test_manent_is_the_wheels(run, elsewhere):
    """What is imported lies in the environment, is not the checkout, and brings no package of another name with it."""
    shown = run("python", "-c", "import manent.api.server, manent.engine; print(manent.engine.__file__)").strip()
    assert shown == str(elsewhere.site / "manent/engine/__init__.py")
    assert {"engine", "api", "migrations", "tests", "scripts"}.isdisjoint(p.name for p in elsewhere.site.iterdir())


def test_what_only_tests_need_is_not_there(elsewhere):
    """The environment has neither pytest nor mypy nor a vendor's SDK, and is one that the rest of this file runs in."""
    there = {path.name for path in elsewhere.site.iterdir()}
    assert {"litestar", "sqlalchemy", "mcp", "manent"} <= there
    assert {"pytest", "mypy", "openai", "anthropic", "hypothesis", "llm", "llama_cpp"}.isdisjoint(there)


def test_it_serves_and_migrates_with_our_revisions(run, elsewhere):
    """A server makes its database there, answers, lists the catalogue, and the record verifies; nothing of the user's
    packages has run.
    """
    run("manent", "migrate", "--database", "served.db")
    with serving(elsewhere, MANENT_DATABASE="served.db", OPENAI_API_KEY="none") as address:
        session = call(f"{address}/api/sessions", {"title": "Elsewhere"})["id"]
        turn = call(f"{address}/api/sessions/{session}/turns", {"content": "Hello.", "model": "echo/echo"})
        assert turn["status"] == "completed"
        assert any(model["provider"] == "openai" and model["price"] for model in call(f"{address}/api/models")["items"])
    assert query(elsewhere.home / "served.db", "SELECT version_num FROM alembic_version") == [(newest_revision(),)]
    run("manent", "verify", "--database", "served.db")
    run("manent", "export", session, "--database", "served.db", "--output", "talk.zip")
    with zipfile.ZipFile(elsewhere.home / "talk.zip") as bundle:
        bundle.extractall(elsewhere.home / "talk")
    assert (elsewhere.home / "talk/FORMAT.md").is_file()
    key, *_ = run("manent", "checkpoint", "--keys", "--database", "served.db").splitlines()
    assert run("python", "-I", "-S", "talk/verify_bundle.py", "talk.zip", "--key", key).startswith("consistent, signed")


def test_an_old_database_is_migrated_there(run, elsewhere):
    """A file of an older version is brought to the newest revision, by name of the wheel's own."""
    old = elsewhere.home / "old.db"
    with gzip.open(OLD) as packed, old.open("wb") as file:
        shutil.copyfileobj(packed, file)
    run("manent", "migrate", "--database", "old.db")
    assert query(old, "SELECT version_num FROM alembic_version") == [(newest_revision(),)]
    run("manent", "verify", "--database", "old.db")


def test_the_readmes_example_runs_there(run, elsewhere):
    """The library is imported as ``manent``, and does what the README shows."""
    section = (ROOT / "engine/README.md").read_text("utf-8").split("\n## From a script\n", 1)[1]
    script = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    assert run("python", "-c", script).startswith("Is this on record?\n")


@pytest.mark.skipif(not mcp_available(), reason="no extra `mcp` here")
def test_tools_of_mcp_servers_are_offered_there(run, elsewhere):
    """With the packages that the lock has for serving, an MCP server is started and its tools are listed."""
    file = elsewhere.home / "mcp.json"
    server = {"command": str(elsewhere.python), "args": [str(ROOT / "tests/mcp_server.py")]}
    file.write_text(json.dumps({"mcpServers": {"house": server}}), "utf-8")
    with serving(elsewhere, MANENT_DATABASE="tools.db", MANENT_MCP_SERVERS_FILE="mcp.json") as address:
        assert "house_greet" in {tool["name"] for tool in call(f"{address}/api/tools")["items"]}


@pytest.mark.local
@pytest.mark.skipif(not local_model_available(), reason="no local model here")
def test_the_local_model_answers_there(run, elsewhere):
    """With the packages that the lock has for serving, the local model is found, starts and says something."""
    with serving(elsewhere, MANENT_DATABASE="local.db") as address:
        session = call(f"{address}/api/sessions", {"model": "local/smollm2-135m"})["id"]
        turn = call(f"{address}/api/sessions/{session}/turns", {"content": "Hello.", "max_output_tokens": 4})
        assert turn["status"] == "completed", turn
