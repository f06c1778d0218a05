"""Erasing, holding and taking out in the browser: what will be reached, a reason, and the session's name to confirm."""

import zipfile

import pytest
from playwright.sync_api import expect

from tests.console.harness import begin, recorded, show


def erase(page, reason):
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name="Erase …").click()
    return page.get_by_role("dialog")


def test_words_are_erased_once_the_name_was_typed(page, server, client):
    """Before it: how much, and which branches lose them, too. Not before the name is right, and with the reason."""
    session = begin(client, "Forget this.", model="scripted/plain", title="Case 7")
    fork = client.post(f"/api/sessions/{session}/fork", json={}).json()["id"]
    show(page, server, f"#/sessions/{session}/keep", "Case 7")
    dialog = erase(page, "they asked")
    expect(dialog).to_contain_text("Branches show them, and lose them too:")
    expect(dialog).to_contain_text(fork[-8:])
    yes = dialog.get_by_role("button", name="Erase", exact=True)
    expect(yes).to_be_disabled()
    dialog.get_by_role("textbox").fill("Case 8")
    expect(yes).to_be_disabled()
    assert recorded(client, session)[0] == "Forget this."
    dialog.get_by_role("textbox").fill("Case 7")
    yes.click()
    expect(page.get_by_role("status").filter(has_text="Erased")).to_contain_text(
        "Out of reach: backups, earlier exports"
    )
    assert recorded(client, session) == recorded(client, fork) == ["", ""]
    message = client.get(f"/api/sessions/{session}/messages").json()["items"][0]
    assert message["erased"]["reason"] == "they asked"


@pytest.mark.slow
def test_words_are_kept_where_one_thinks_again(page, server, client):
    """The dialog left: nothing is done."""
    session = begin(client, "Stay.", model="scripted/plain", title="Case 9")
    show(page, server, f"#/sessions/{session}/keep", "Case 9")
    erase(page, "a mistake").get_by_role("button", name="Keep").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert recorded(client, session)[0] == "Stay."


@pytest.mark.slow
def test_one_event_is_erased(page, server, client):
    """By its version, with the one that told the same words; the answer stays."""
    session = begin(client, "Only this.", model="scripted/plain", title="Case 10")
    show(page, server, f"#/sessions/{session}/keep", "Case 10")
    page.get_by_label("Versions").fill("2")
    dialog = erase(page, "only one")
    expect(dialog).to_contain_text("The words of 2 events will")
    dialog.get_by_role("textbox").fill("Case 10")
    dialog.get_by_role("button", name="Erase", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="Erased")).to_be_visible()
    assert recorded(client, session) == ["", "Hello from the script."]


def test_a_held_session_is_not_erased(page, server, client):
    """Hold takes the form away and is told in the heading; release brings it back."""
    session = begin(client, "Hold on.", model="scripted/plain", title="Case 11")
    show(page, server, f"#/sessions/{session}/keep", "Case 11")
    page.get_by_role("button", name="Hold").click()
    expect(page.get_by_text("This session is held")).to_be_visible()
    expect(page.get_by_role("button", name="Erase …")).to_have_count(0)
    assert client.get(f"/api/sessions/{session}").json()["legal_hold"] is True
    page.get_by_role("button", name="Release").click()
    expect(page.get_by_role("button", name="Erase …")).to_be_visible()


@pytest.mark.slow
def test_a_bundle_is_taken_out(page, server, client, tmp_path):
    """It is a bundle, with the events and a verifier in it."""
    session = begin(client, "Take me.", model="scripted/plain")
    show(page, server, f"#/sessions/{session}/keep")
    with page.expect_download() as download:
        page.get_by_role("button", name="Bundle").click()
    download.value.save_as(tmp_path / "bundle.zip")
    names = zipfile.ZipFile(tmp_path / "bundle.zip").namelist()
    assert any(name.endswith("verify_bundle.py") for name in names), names


@pytest.mark.slow
def test_a_transcript_is_opened(watched, server, client):
    """In a tab of its own, by a ticket; and it is taken along as Markdown."""
    session = begin(client, "Read me.", model="scripted/plain", title="To be read")
    watch = watched(server)
    show(watch.page, server, f"#/sessions/{session}/keep")
    with watch.context.expect_page() as opened:
        watch.page.get_by_role("button", name="Transcript", exact=True).click()
    expect(opened.value.locator("body")).to_contain_text("Hello from the script.")
    with watch.page.expect_download() as download:
        watch.page.get_by_role("button", name="Transcript, Markdown").click()
    assert "Hello from the script." in download.value.path().read_text("utf-8")
