"""What happens to the page while an answer comes: nothing of it is lost, and nothing stands twice."""

import re
import signal

import pytest
from playwright.sync_api import expect

from tests.console.conftest import serving
from tests.console.harness import NUMBERS, answer, begin, recorded, says, session_of, show, write

CAME = re.compile("n30 ")


@pytest.fixture
def counting(watched, server, client):
    """A page in which an answer of numbers comes in."""
    watch = watched(server)
    session = begin(client, model="scripted/numbers")
    show(watch.page, server, f"#/sessions/{session}")
    write(watch.page, "Count.")
    expect(answer(watch.page)).to_contain_text(CAME)
    return watch


def is_whole(page, client):
    """The whole answer stands there once, as on record."""
    expect(page.locator("article.assistant footer")).to_be_visible()
    expect(page.locator("article.assistant")).to_have_count(1)
    says(page, NUMBERS)
    assert recorded(client, session_of(page))[1] == NUMBERS


def test_a_reload_in_mid_answer(counting, client):
    """The words from before are there again, and the rest comes."""
    counting.page.reload()
    expect(answer(counting.page)).to_contain_text("n1 n2 n3")
    is_whole(counting.page, client)


@pytest.mark.slow
def test_going_away_and_coming_back(counting, client):
    """To another view and back while it comes."""
    page = counting.page
    address = page.url
    page.get_by_role("link", name="Sessions").click()
    expect(page.locator("h1")).to_have_text("Sessions")
    page.goto(address)
    is_whole(page, client)


@pytest.mark.slow
def test_a_network_that_goes_away(counting, client):
    """It is said that the connection is lost; when it is back, what was missed comes, once."""
    counting.context.set_offline(True)
    expect(counting.page.get_by_text("The connection is lost.")).to_be_visible()
    counting.context.set_offline(False)
    is_whole(counting.page, client)
    expect(counting.page.get_by_text("The connection is lost.")).to_be_hidden()


@pytest.mark.slow
def test_a_hidden_tab_catches_up(counting, client):
    """A tab that is put away draws nothing, and shows everything when it is seen again."""
    page = counting.page
    other = counting.context.new_page()
    other.bring_to_front()
    page.wait_for_timeout(1500)
    page.bring_to_front()
    is_whole(page, client)


def port_of(server):
    return server.url.rpartition(":")[2]


@pytest.mark.slow
def test_a_server_that_is_killed_in_mid_answer(watched, tmp_path):
    """Kill -9, and it comes back: without a reload the page shows exactly the recorded text, marked as interrupted,
    with a button that goes on.
    """
    with serving(tmp_path) as server, server.client() as client:
        session = begin(client, model="scripted/numbers")
        watch = watched(server)
        page = watch.page
        show(page, server, f"#/sessions/{session}")
        write(page, "Count.")
        expect(answer(page)).to_contain_text(CAME)
        server.send(signal.SIGKILL)
        server.wait()
        expect(page.get_by_text("The connection is lost.")).to_be_visible()
        shown = answer(page).text_content()
    with serving(tmp_path, "--port", port_of(server)) as server, server.client() as client:
        expect(page.get_by_role("note")).to_contain_text("interrupted")
        expect(page.get_by_text("This answer was cut off here.")).to_be_visible()
        expect(page.get_by_text("The connection is lost.")).to_be_hidden()
        text = recorded(client, session)[1]
        says(page, text)
        assert text.startswith(shown)
        assert NUMBERS.startswith(text)
        page.get_by_role("button", name="Continue the answer").click()
        expect(page.locator("article.assistant")).to_have_count(2)
        expect(page.locator("article.assistant footer")).to_have_count(2)


@pytest.mark.slow
def test_a_server_that_restarts_while_nobody_writes(watched, tmp_path):
    """The page reads on: what is said afterwards, by anybody, appears."""
    with serving(tmp_path) as server, server.client() as client:
        session = begin(client, "Before.", model="scripted/plain")
        page = watched(server).page
        show(page, server, f"#/sessions/{session}")
        expect(page.locator("article")).to_have_count(2)
    with serving(tmp_path, "--port", port_of(server)) as server, server.client() as client:
        client.post(f"/api/sessions/{session}/messages", json={"content": "After."})
        expect(page.locator("article")).to_have_count(3)
        expect(page.locator("article .words").last).to_have_text("After.")
