"""Keys in the browser: asked for once, kept nowhere, void when they are revoked, and only what their scopes allow."""

import json
from hashlib import sha256

import pytest
from playwright.sync_api import expect

from tests.console.conftest import serving
from tests.console.harness import answer, begin, session_of, show, write

KEYS = {
    "ann-secret": ("ann", ["chat"]),
    "aud-secret": ("aud", ["chat", "audit", "erase"]),
    "bob-secret": ("bob", ["chat"]),
}


def write_keys(path, secrets):
    digests = {secret: sha256(secret.encode()).hexdigest() for secret in secrets}
    entries = [{"id": KEYS[each][0], "sha256": digests[each], "scopes": KEYS[each][1]} for each in secrets]
    path.write_text(json.dumps(entries), encoding="utf-8")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    write_keys(folder / "keys.json", KEYS)
    with serving(folder, MANENT_API_KEYS_FILE=str(folder / "keys.json")) as server:
        server.keys_file = folder / "keys.json"
        yield server


def log_in(page, key):
    dialog = page.get_by_role("dialog", name="This server asks for an API key")
    dialog.get_by_label("API key").fill(key)
    dialog.get_by_role("button", name="Go on").click()
    return dialog


def test_a_key_is_traded_and_kept_nowhere(watched, guarded):
    """A wrong one is refused with a line; the right one opens the page, also after a reload, and is in no address, no
    storage, no cookie that scripts see, and no request but that one.
    """
    watch = watched(guarded)
    page = watch.page
    bodies = []
    page.on("request", lambda request: bodies.append((request.url, request.post_data, request.all_headers())))
    page.goto(f"{guarded.url}/console/")
    dialog = log_in(page, "wrong")
    expect(dialog.get_by_role("alert")).to_contain_text("unauthorized")
    log_in(page, "ann-secret")
    expect(page.locator("h1")).to_have_text("Sessions")
    expect(page.locator("header")).to_contain_text("ann")
    page.reload()
    expect(page.locator("h1")).to_have_text("Sessions")
    kept = page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href])")
    assert "ann-secret" not in kept
    assert page.evaluate("document.cookie") == ""
    with_key = [url for url, body, headers in bodies if "ann-secret" in f"{url}{body}{headers}"]
    assert with_key == [f"{guarded.url}/api/console/session"]
    assert not any("ann-secret" in line for line in guarded.lines)


@pytest.mark.slow
def test_scopes_show(watched, guarded):
    """What a key may not do is not offered: neither the log of all, nor erasing."""
    page = watched(guarded).page
    with guarded.client(headers={"authorization": "Bearer ann-secret"}) as client:
        session = begin(client, "Mine.", model="scripted/plain")
    page.goto(f"{guarded.url}/console/#/sessions/{session}/keep")
    log_in(page, "ann-secret")
    expect(page.get_by_text("that needs the scope “erase”")).to_be_visible()
    expect(page.get_by_role("button", name="Erase …")).to_have_count(0)
    expect(page.get_by_role("navigation", name="Views").get_by_role("link", name="Record")).to_have_count(0)
    page.get_by_role("button", name="Log out").click()
    log_in(page, "aud-secret")
    expect(page.get_by_role("button", name="Erase …")).to_be_visible()
    expect(page.get_by_role("navigation", name="Views").get_by_role("link", name="Record")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Bundle").click()
    assert download.value.failure() is None


@pytest.mark.slow
def test_a_key_that_is_revoked_in_mid_session(watched, guarded):
    """The page asks for another one, and then goes on where it was: nothing that was written is lost."""
    page = watched(guarded).page
    with guarded.client(headers={"authorization": "Bearer bob-secret"}) as client:
        session = begin(client, model="scripted/plain")
    page.goto(f"{guarded.url}/console/#/sessions/{session}")
    log_in(page, "bob-secret")
    expect(page.get_by_role("textbox", name="Message")).to_be_visible()
    write_keys(guarded.keys_file, ["ann-secret", "aud-secret"])
    page.wait_for_timeout(1500)  # the server looks at its keys twice a second
    dialog = page.get_by_role("dialog", name="This server asks for an API key")
    if not dialog.is_visible():
        write(page, "Still there?")
    log_in(page, "ann-secret")
    expect(dialog).to_have_count(0)
    if not page.locator("article").count():
        write(page, "Still there?")
    expect(answer(page)).to_have_text("Hello from the script.")
    assert session_of(page) == session
    write_keys(guarded.keys_file, KEYS)


def test_without_keys_nobody_is_asked(page, server):
    """On loopback it opens as the API does."""
    show(page, server, heading="Sessions")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("header")).to_contain_text("local user")
    expect(page.get_by_role("button", name="Log out")).to_have_count(0)
