"""Replays in the browser: one is started, watched to its end, and read."""

import pytest
from playwright.sync_api import expect

from tests.console.harness import begin, show


def test_a_replay_on_the_record(page, server, client):
    """Started from a session's page; each turn comes out the same."""
    session = begin(client, "Again?", model="scripted/plain", title="To be replayed")
    show(page, server, f"#/replays?sessions={session}", "Replays")
    page.get_by_role("button", name="Replay sessions").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Sessions, by id")).to_have_value(session)
    dialog.get_by_role("button", name="Start").click()
    expect(page.locator("h1")).to_have_text("Replay")
    expect(page.locator(".heading .flag")).to_have_text("completed")
    expect(page.locator(".results li")).to_have_text(["samerecorded turn"])
    page.get_by_role("link", name="Replays").click()
    expect(page.locator("li.row").first).to_contain_text("1 same")


@pytest.mark.slow
def test_a_replay_on_another_model(watched, server, client):
    """What differs is named, leads to both side by side, and stands in the report, which opens without a key in it."""
    session = begin(client, "Different?", model="scripted/plain")
    watch = watched(server)
    page = watch.page
    show(page, server, f"#/replays?sessions={session}", "Replays")
    page.get_by_role("button", name="Replay sessions").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("How").select_option("forced")
    dialog.get_by_label("Model").fill("echo/echo")
    dialog.get_by_role("button", name="Start").click()
    result = page.locator(".results li")
    expect(result).to_contain_text("different")
    with watch.context.expect_page() as opened:
        page.get_by_role("button", name="Report").click()
    expect(opened.value.locator("body")).to_contain_text("Hello from the script.")
    result.get_by_role("link", name="side by side").click()
    expect(page.locator(".side article.assistant .words")).to_have_text(["Hello from the script.", "Different?"])


@pytest.mark.slow
def test_a_replay_that_cannot_be(page, server, client):
    """The refusal is a line in the dialog, and what was written stays."""
    show(page, server, "#/replays", "Replays")
    page.get_by_role("button", name="Replay sessions").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Sessions, by id").fill("not-an-id")
    dialog.get_by_role("button", name="Start").click()
    expect(dialog.get_by_role("alert")).to_contain_text("sessions")
    expect(dialog.get_by_label("Sessions, by id")).to_have_value("not-an-id")
