"""``manent chat`` and ``manent ask`` in a terminal: keys in, a screen out."""

import json

import pytest

PASTE = "\x1b[200~{}\x1b[201~"
LONG = "word after word " * 40


@pytest.fixture
def said(call):
    """The messages of the only session: roles and texts."""

    def said():
        (session,) = json.loads(call("sessions", "--json").stdout)
        messages = json.loads(call("show", session["id"], "--json").stdout)["messages"]
        return [(message["role"], message["content"][0]["text"]) for message in messages]

    return said


def test_a_paste_is_one_message(terminal, said):
    """Several lines that are pasted are one message and one turn, also where they look like commands."""
    with terminal("chat") as screen:
        screen.see("> ")
        screen.type(PASTE.format("/model\r  second line\r\rlast\r") + "\r")
        screen.see("tokens: ")
        screen.see("> ")
        screen.type("\x04")
        assert screen.end() == 0
    assert said() == [("user", "/model\n  second line\n\nlast"), ("assistant", "/model\n  second line\n\nlast")]


def test_several_lines_are_typed(terminal, said):
    """Three quotes begin and end a message; a line that ends in a backslash goes on."""
    with terminal("chat") as screen:
        screen.see("> ")
        for line in ('"""', "/quit", "", "two"):
            screen.type(f"{line}\r")
            screen.see("… ")
        screen.type('"""\r')
        screen.see("tokens: ")
        screen.type("one\\\r")
        screen.see("… ")
        screen.type("two\r")
        screen.see("tokens: ")
        screen.type("/quit\r")
        assert screen.end() == 0
    assert [text for role, text in said() if role == "user"] == ["/quit\n\ntwo", "one\ntwo"]


def test_commands_are_never_sent(terminal, said, call):
    """Each does what it says, one that there is not is told, and only what has two slashes is sent, with one."""
    with terminal("chat") as screen:
        for command, answer in (
            ("/help", "list these commands"),
            ("/model", "*  echo/echo"),
            ("/model echo/paced", "echo/paced answers from now on"),
            ("/model echo/nothing", "there is echo/echo"),
            ("/system", "there is no system prompt"),
            ("/system Be brief.", "the system prompt is set"),
            ("/tools", "calculator"),
            ("/tools calculator", "offered: calculator"),
            ("/tools nonsense", "no tool is named 'nonsense'"),
            ("/tools -", "offered: none"),
            ("/etc/passwd", "there is no /etc/passwd: /help lists what there is"),
            ("//etc", "tokens: "),
            ("/system Be long.", "the system prompt is set"),
            ("/new", "the next message begins another session"),
        ):
            screen.see("> ")
            screen.type(f"{command}\r")
            assert "Traceback" not in screen.see(answer)
        screen.see("> ")
        screen.type("/quit\r")
        assert screen.end() == 0
    assert said() == [("user", "/etc"), ("assistant", "/etc")]
    (session,) = json.loads(call("sessions", "--json").stdout)
    assert session["system"] == "Be long."
    messages = json.loads(call("show", session["id"], "--json").stdout)["messages"]
    assert messages[1]["model"] == "echo/paced"


def test_nothing_said_leaves_nothing(terminal, tmp_path):
    """A chat that is left without a message makes no session, and no database."""
    with terminal("chat") as screen:
        screen.see("> ")
        screen.type("/help\r/new\r\r\x04")
        assert screen.end() == 0
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_cancels_the_answer(terminal, call):
    """The answer stops, which is said and on record; the chat goes on. At the prompt Ctrl-C drops the line."""
    with terminal("chat", "-m", "echo/paced") as screen:
        screen.see("> ")
        screen.type(f"{LONG}\r")
        screen.see("\n")
        screen.see("word after")
        screen.type("\x03")
        screen.see("cancelled; what came is on record")
        screen.see("> ")
        screen.type("dropped")
        screen.see("dropped")  # it is read: Ctrl-C before would drop what is on its way, too
        screen.interrupt("> ")
        screen.type("more\r")
        screen.see("tokens: ")
        screen.see("> ")
        screen.type("\x04")
        assert screen.end() == 0
    (session,) = json.loads(call("sessions", "--json").stdout)
    shown = call("show", session["id"]).stdout
    assert "[incomplete: cancelled]" in shown
    assert "[the turn was cancelled]" in shown
    assert "dropped" not in shown
    assert "more" in shown


def test_a_session_is_gone_on_with(terminal, recorded, database, call):
    """The last messages are shown, and how many are not; the arrow brings back what was asked; answers follow."""
    with terminal("chat", "-c", str(recorded.talked)[:13], "--history", "2") as screen:
        seen = screen.see("> ")
        assert f"2 earlier messages are not shown: manent show {str(recorded.talked)[:13]} shows all" in seen
        assert seen.count("Grüße, 世界 🌍\nsecond line") == 2
        assert "Is this on record?" not in seen
        screen.type("And this?\r")
        screen.see("tokens: ")
        screen.type("\x1b[A\r")
        screen.see("tokens: ")
        screen.type("/quit\r")
        assert f"go on later with: manent chat -c {str(recorded.talked)[:13]}" in screen.see_all()
        assert screen.process.wait(10) == 0
    messages = json.loads(call("show", recorded.talked, "--json").stdout)["messages"]
    assert [message["content"][0]["text"] for message in messages[-4:]] == ["And this?"] * 4


def test_the_last_session_is_gone_on_with(terminal, run):
    """--last is the one that was active last."""
    for words in ("The first.", "The second."):
        assert run("ask", words).returncode == 0
    with terminal("chat", "--last") as screen:
        assert "The second." in screen.see("> ")


def test_markdown_is_rendered_and_hides_nothing(terminal):
    """Emphasis is drawn, lists have bullets, addresses and HTML are shown; what the turn took is said; --plain shows it
    as it was written.
    """
    text = "**bold**\r\r- item\r\r[here](https://example.org/x) <b>tag</b> ![pic](a.png)"
    with terminal("chat") as screen:
        screen.see("> ")
        screen.type(PASTE.format(text) + "\r")
        seen = screen.see("tokens: ")
        assert b"\x1b[1mbold\x1b[0m" in screen.raw
        assert " • item" in seen
        assert "here (https://example.org/x) <b>tag</b> ![pic](a.png)" in " ".join(seen.split())
        assert "echo/echo · tokens: " in seen
    with terminal("chat", "--plain") as screen:
        screen.see("> ")
        screen.type("**bold**\r")
        screen.see("**bold**\n**bold**\n")


def test_a_terminal_is_prompted_and_not_commanded(terminal):
    """There is a prompt, an answer's escape sequences are shown and not sent, and Ctrl-D leaves; so it is in a terminal
    that can do nothing.
    """
    for term in ("dumb", "xterm-256color"):
        with terminal("chat", term=term) as screen:
            assert "/quit or Ctrl-D leaves" in screen.see("> ")
            screen.type("\x16\x1b[31mred\r")
            screen.see("␛[31mred\n" if term == "dumb" else "␛[31mred")
            screen.see("tokens: ")
            assert b"\x1b[31m" not in screen.raw
            screen.see("> ")
            screen.type("\x04")
            assert screen.end() == 0


def test_a_question_is_answered_as_it_comes(terminal):
    """The answer's text, and then on a line of its own the model and what it took."""
    with terminal("ask", "-m", "echo/paced", "Is this on record?") as screen:
        seen = screen.see_all()
        assert screen.process.wait(10) == 0
    lines = seen.replace("manent: database manent.db: created\n", "").splitlines()
    assert lines[0] == "Is this on record?"
    assert lines[1].startswith("echo/paced · tokens: ")
    assert " · session 0" in lines[1]


def test_ctrl_c_ends_a_question(terminal, call):
    """The turn is cancelled on record, and the exit code is that of Ctrl-C."""
    with terminal("ask", "-m", "echo/paced", LONG) as screen:
        screen.see("word after word")
        screen.type("\x03")
        assert "cancelled; what came is on record" in screen.see("on record")
        assert screen.end() == 130
    (session,) = json.loads(call("sessions", "--json").stdout)
    assert "[the turn was cancelled]" in call("show", session["id"]).stdout
