"""The record in the browser: events of a session and of the log, live, filtered, erased ones, and the checkpoint."""

import re

import pytest
from playwright.sync_api import expect

from tests.console.harness import begin, show, until


def test_the_events_of_a_session_are_told_live(page, server, client):
    """Newest first; what is recorded while one looks appears; by type only those."""
    session = begin(client, "Record this.", model="scripted/plain")
    show(page, server, f"#/sessions/{session}/record", "Record of a session")
    types = page.locator(".events .type")
    expect(types.last).to_have_text("session.started")
    expect(types.first).to_have_text("turn.completed")
    client.post(f"/api/sessions/{session}/messages", json={"content": "Later words."}).raise_for_status()
    expect(types.first).to_have_text("message.appended")
    expect(page.locator(".events li").first).to_contain_text("Later words.")
    page.get_by_label("Which events").select_option("requests")
    expect(types).to_have_text(["attempt.ended", "attempt.started"])


@pytest.mark.slow
def test_the_log_of_all_sessions_is_read_backwards(page, server, client):
    """Down to its first event, however long; a live event comes in at the top."""
    for number in range(60):
        client.post("/api/sessions", json={"model": "echo/echo", "title": f"For the log {number}"})
    show(page, server, "#/record", "The record")
    newest = int(page.locator(".events .right").first.text_content())
    scroller = page.locator(".scroller")
    scroller.evaluate("element => { element.scrollTop = element.scrollHeight; }")
    for _ in range(40):
        page.wait_for_timeout(50)
        scroller.evaluate("element => { element.scrollTop = element.scrollHeight; }")
        if page.locator(".events .right").last.text_content() == "1":
            break
    expect(page.locator(".events .right").last).to_have_text("1")
    scroller.evaluate("element => { element.scrollTop = 0; }")
    client.post("/api/sessions", json={"model": "echo/echo"}).raise_for_status()
    expect(page.locator(".events .right").first).to_have_text(str(newest + 1))


def test_the_newest_checkpoint_is_checked_here(page, server, client):
    """Its size, who signed it, and its age."""
    begin(client, "x", model="scripted/plain")
    client.post("/api/log/checkpoint", json={}).raise_for_status()
    show(page, server, "#/record", "The record")
    line = page.locator(".checkpoint")
    expect(line).to_contain_text("signed by the key that this server tells")
    expect(line).to_contain_text(re.compile(r"[\d,]+ events"))


@pytest.mark.slow
def test_an_event_is_taken_along(watched, server, client):
    """Its address leads back to it; a list is copied as a command that gives the same."""
    watch = watched(server)
    watch.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = watch.page
    session = begin(client, "Copy me.", model="scripted/plain")
    show(page, server, f"#/sessions/{session}/record", "Record of a session")
    page.get_by_label("Which events").select_option("messages")
    page.get_by_role("button", name="Copy as curl").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    address = re.match(r"curl -s '([^']+)' -H \"Authorization: Bearer \$MANENT_API_KEY\"$", copied)[1]
    assert [event["type"] for event in client.get(address).json()["items"]] == ["message.appended"] * 2
    expect(page.locator(".events li")).to_have_count(2)
    page.locator(".events li").last.get_by_role("button", name="as curl").click()
    until(page, "navigator.clipboard.readText().then((text) => text.includes('after=1'))")
    (event,) = client.get(page.evaluate("navigator.clipboard.readText()").split("'")[1]).json()["items"]
    assert (event["version"], event["body"]["content"][0]["text"]) == (2, "Copy me.")
    page.locator(".events a").first.click()
    expect(page.locator("h1")).to_have_text("message.appended")
    page.reload()
    expect(page.locator("h1")).to_have_text("message.appended")
    page.get_by_role("button", name="Copy as curl").click()
    until(page, f"navigator.clipboard.readText().then((text) => text.includes('{session}/events?after='))")


def test_erased_words_are_told_by_whom_and_why(page, server, client):
    """In the event and in the conversation; what is left of it still proves."""
    session = begin(client, "Secret words.", model="scripted/plain")
    client.post(f"/api/sessions/{session}/erase", json={"reason": "they asked"}).raise_for_status()
    show(page, server, f"#/sessions/{session}")
    expect(page.locator("article.user .erased")).to_have_text(re.compile("erased by local user, .*: they asked"))
    show(page, server, f"#/events/{session}/2", "message.appended")
    expect(page.locator(".erased")).to_have_text(re.compile("erased by local user, .*: they asked"))
    expect(page.locator(".steps")).to_contain_text("The words were erased; the record of them stands.")
    expect(page.locator(".steps li.good")).to_have_count(4)
    assert "Secret words." not in page.locator("main").text_content()


@pytest.mark.slow
def test_erasing_is_seen_while_one_looks(page, server, client):
    """The words go from a page that shows them."""
    session = begin(client, "Here and gone.", model="scripted/plain")
    show(page, server, f"#/sessions/{session}")
    expect(page.locator("article.user .words")).to_have_text("Here and gone.")
    client.post(f"/api/sessions/{session}/erase", json={"reason": "now"}).raise_for_status()
    expect(page.locator("article.user .erased")).to_contain_text("now")
    expect(page.get_by_text("Here and gone.")).to_have_count(0)


@pytest.mark.slow
def test_an_event_that_is_not_there(page, server, client):
    """It is said in a line, not a blank page."""
    session = begin(client, model="scripted/plain")
    page.goto(f"{server.url}/console/#/events/{session}/99")
    expect(page.get_by_role("alert")).to_contain_text("no event of this version")
    page.goto(f"{server.url}/console/#/sessions/00000000-0000-7000-8000-000000000000")
    expect(page.get_by_role("alert")).to_contain_text("session_not_found")
