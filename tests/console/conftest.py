"""Debian's Chromium, driven by Playwright, on a real server process; and what no page of ours may ever do.

Each test has a context of its own: no cookie, no storage. A page that opens a dialog, asks another host for anything,
breaks its policy, or throws an error fails its test. Where there is no Chromium all of this is skipped, and said.
"""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from manent.engine.tools.mcp.config import mcp_available
from tests.api import claude_upstream
from tests.api.harness import Process
from tests.console.harness import SCRIPT, Watched, run_module

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
]
MCP_SERVER = Path(__file__).parent.parent / "mcp_server.py"
PATIENCE_MS = 20_000
NO_CHROMIUM = "no Chromium here: the console was not tested in a browser (on Debian: apt-get install chromium)"


def chromium():
    """The path of a Chromium that is installed, or None: none is fetched."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def pytest_terminal_summary(terminalreporter):
    """Says loudly what was not tested."""
    skipped = terminalreporter.stats.get("skipped", ())
    if any(NO_CHROMIUM in str(report.longrepr) for report in skipped):
        terminalreporter.section("console")
        terminalreporter.write_line(NO_CHROMIUM, red=True, bold=True)


@pytest.fixture(scope="package")
def browser():
    """Of this folder and not of the session: Playwright keeps a loop in this thread, where others run their own."""
    path = chromium()
    if path is None:
        pytest.skip(NO_CHROMIUM)
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server process with a script and a vendor, shared; it is open. One of its tools waits for a person."""
    folder = tmp_path_factory.mktemp("console")
    tools = folder / "mcp.json"
    known = {"command": sys.executable, "args": [str(MCP_SERVER)], "approval": True}
    tools.write_text(json.dumps({"mcpServers": {"tests": known}}), encoding="utf-8")
    more = {"MANENT_MCP_SERVERS_FILE": str(tools)} if mcp_available() else {}
    with claude_upstream.upstream() as vendor:
        more |= {"ANTHROPIC_API_KEY": "none", "MANENT_ANTHROPIC_BASE_URL": vendor.address}
        with serving(folder, **more) as server:
            yield server


@contextmanager
def serving(folder, *options, **environment):
    """A server process on a database in a folder."""
    script = folder / "script.json"
    script.write_text(json.dumps({"models": SCRIPT}), encoding="utf-8")
    with Process(folder / "manent.db", *options, **{"MANENT_SCRIPT": str(script)} | environment) as server:
        yield server
        server.send()
        try:
            server.wait()
        except subprocess.TimeoutExpired:
            server.popen.kill()


@pytest.fixture
def watched(browser, request):
    """Opens pages that are watched; afterwards none may have done what it must not."""
    opened = []

    def open_page(server, **options):
        context = browser.new_context(**{"reduced_motion": "reduce", "locale": "en-GB"} | options)
        context.set_default_timeout(PATIENCE_MS)
        opened.append(Watched(context, server.url))
        return opened[-1]

    yield open_page
    faults = [fault for each in opened for fault in each.faults()]
    for each in opened:
        each.context.close()
    assert faults == []


@pytest.fixture
def page(watched, server):
    """A page on the shared server; nothing is opened in it yet."""
    return watched(server).page


@pytest.fixture(scope="module")
def lab(browser, server):
    """A page for asking modules, shared by a file."""
    watched = Watched(browser.new_context(), server.url)
    yield lambda path, body, *arguments: run_module(watched.page, server, path, body, *arguments)
    watched.context.close()
    assert watched.faults() == []


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client
