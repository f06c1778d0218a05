"""``manent sessions`` and ``manent show``: reading the record."""

import json

import pytest

from manent.api.cli.terminal import printable
from tests.contracts.test_tamper import attack
from tests.support import query


def test_sessions_are_listed_the_last_active_first(run, recorded, database):
    """A table names every session of the tenant with its title, and none of another tenant's; what it shows of an id is
    enough to find the session by.
    """
    done = run("sessions")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    shown = [line.split()[0] for line in lines[1:]]
    ids = [recorded.archived, recorded.tools, recorded.broken, recorded.talked]
    assert len(shown) == len(ids)
    assert len(set(shown)) == len(ids)
    assert all(str(session).startswith(short) for session, short in zip(ids, shown, strict=True))
    assert f"session {recorded.talked}" in run("show", shown[3]).stdout
    assert lines[4].split() == [shown[3], *lines[4].split()[1:3], "4", "echo/echo", "active", "A", "talk"]


def test_a_title_cannot_command_the_terminal(call, database):
    """An escape sequence in a title is shown, and not sent."""
    done = call("sessions")
    assert "\x1b" not in done.stdout
    assert "Broken ␛[31moff" in done.stdout


def test_sessions_as_json_are_those_of_the_api(call, recorded, database):
    """--json gives an array of Sessions, with the fields that API.md fixes."""
    found = json.loads(call("sessions", "--json").stdout)
    assert [session["id"] for session in found][-1] == str(recorded.talked)
    assert found[-1]["title"] == "A talk"
    assert found[-1]["system"] == "Be brief."
    assert {"status", "version", "message_count", "usage", "open_turn_id", "updated_at"} <= found[0].keys()


def test_sessions_can_be_limited_and_chosen(call, recorded, database):
    """--limit lists no more and says that there are more; --status and --tenant choose."""
    limited = call("sessions", "--limit", "2")
    assert len(limited.stdout.splitlines()) == 3
    assert "more than these 2" in limited.stderr
    archived = json.loads(call("sessions", "--status", "archived", "--json").stdout)
    assert [session["id"] for session in archived] == [str(recorded.archived)]
    other = json.loads(call("sessions", "--tenant", "acme", "--json").stdout)
    assert [session["id"] for session in other] == [str(recorded.other)]
    assert json.loads(call("sessions", "--tenant", "nobody", "--json").stdout) == []


def test_a_conversation_is_shown_readable(run, recorded, database):
    """Roles, times and words of every message, and the session's system prompt."""
    done = run("show", recorded.talked)
    assert done.returncode == 0, done.stderr
    for expected in (
        "A talk",
        "echo/echo, active, version 13, 4 messages",
        "Be brief.",
        "#2 user  20",
        "#12 assistant  echo/echo  20",
    ):
        assert expected in done.stdout
    assert done.stdout.count("Grüße, 世界 🌍\nsecond line") == 2


def test_what_broke_off_says_why(call, recorded, database):
    """A partial answer is shown with a mark, and with how its turn ended."""
    done = call("show", recorded.broken)
    assert "[incomplete: cancelled]" in done.stdout
    assert "Half of it." in done.stdout


def test_tools_are_summarised(call, recorded, database):
    """A call is shown with its input, and a result with the call it answers."""
    done = call("show", recorded.tools)
    assert '[asks for weather {"city":"Rome"}]' in done.stdout
    assert "[result of call_1: Rain all week.]" in done.stdout


def test_every_event_is_shown(call, recorded, database):
    """--events lists position, version, type, actor and facts of each, in order."""
    done = call("show", recorded.talked, "--events")
    heads = [line.split() for line in done.stdout.splitlines()[::3]]
    assert [(head[0], head[1]) for head in heads] == [(str(number), f"#{number}") for number in range(1, 14)]
    assert [head[-1] for head in heads][:4] == [
        "session.started",
        "message.appended",
        "turn.started",
        "attempt.started",
    ]
    assert '"role":"user"' in done.stdout
    assert "by local, " in done.stdout


def test_show_as_json_loses_nothing(call, recorded, database):
    """--json gives the session and its messages; with --events the Events as the API has them."""
    shown = json.loads(call("show", recorded.talked, "--json").stdout)
    assert shown["session"]["id"] == str(recorded.talked)
    assert shown["messages"][2]["content"] == [{"type": "text", "text": "Grüße, 世界 🌍\nsecond line"}]
    events = json.loads(call("show", recorded.talked, "--events", "--json").stdout)
    assert [event["version"] for event in events] == list(range(1, 14))
    assert events[1]["facts"]["role"] == "user"
    assert events[1]["body"]["content"][0]["text"] == "Is this on record?"
    assert len(events[0]["leaf_hash"]) == 64


def test_the_beginning_of_an_id_is_enough(call, recorded, database):
    """A prefix finds the only session that begins with it, with or without dashes, in either case."""
    whole = str(recorded.talked)
    for text in (whole, whole.upper(), recorded.talked.hex, recorded.talked.hex[:-1], whole[:-1]):
        assert f"session {whole}" in call("show", text).stdout


def test_an_ambiguous_beginning_is_refused(call, recorded, database):
    """Where several sessions begin so, two are named, and none is guessed."""
    done = call("show", "0")
    assert done.returncode == 1
    assert "more than one session begins with 0" in done.stderr
    assert str(recorded.archived) in done.stderr


@pytest.mark.parametrize("text", ["f", "ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000-0000-7000-8000-000000000000"])
def test_a_session_that_is_not_there_is_not_found(call, database, text):
    """An id that nobody has ends in exit code 1 and a sentence."""
    done = call("show", text)
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no s" in done.stderr


def test_another_tenants_session_is_not_there(call, recorded, database):
    """Every look-up is by tenant and id."""
    assert call("show", recorded.other).returncode == 1
    assert call("show", recorded.other, "--tenant", "acme").returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        ("show", "xyz"),
        ("show", "0-1"),
        ("show", "0" * 33),
        ("show", ""),
        ("show",),
        ("sessions", "--limit", "0"),
        ("sessions", "--limit", "many"),
        ("sessions", "--status", "open"),
        ("sessions", "--tenant", "No Such"),
        ("sessions", "--database", "postgresql://host/name"),
        ("sessions", "--unknown"),
        ("nothing",),
    ],
)
def test_wrong_use_exits_with_2(call, database, command):
    """What is not of its form is refused with one sentence, and no stack trace."""
    done = call(*command)
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("sessions",), ("show", "0"), ("explain", "0"), ("doctor",), ("rebuild",)])
def test_a_missing_database_is_named_and_not_made(call, tmp_path, command):
    """Who reads what is not there is told so, and finds no new file."""
    done = call(*command, "--database", "missing.db")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "manent: there is no database at missing.db\n"
    assert not list(tmp_path.glob("missing*"))


@pytest.mark.parametrize("command", [("sessions",), ("show", "0"), ("doctor",), ("rebuild",), ("migrate",)])
def test_a_foreign_file_is_left_alone(call, tmp_path, command):
    """A file of somebody else's is refused, and not a byte of it is changed."""
    foreign = tmp_path / "foreign.db"
    foreign.write_bytes(b"Not a database at all. " * 500)
    before = foreign.read_bytes()
    done = call(*command, "--database", foreign)
    assert done.returncode == 1
    assert "not a Manent database" in done.stderr
    assert foreign.read_bytes() == before


def test_reading_goes_on_beside_a_server(run, call, serve, recorded, database):
    """While a server has the file, it can be listed and shown, and what the server writes is seen."""
    with serve(database) as server:
        run("chat", "--url", server.url, "--session", recorded.talked, given="More.\n")
        assert "More." in call("show", recorded.talked).stdout
        first = json.loads(run("sessions", "--json").stdout)[0]
    assert (first["id"], first["message_count"]) == (str(recorded.talked), 6)


def test_an_unknown_setting_is_named_and_a_clients_is_not(run, database):
    """A slip in the environment is told; what only clients read is no slip."""
    done = run("sessions", "--database", "manent.db", MANENT_DATABSE="x.db", MANENT_URL="http://127.0.0.1:1")
    assert done.stderr == "manent: there is no setting MANENT_DATABSE; it is ignored\n"


# --- damaged rows -----------------------------------------------------------------------------------------------------


def test_a_session_is_shown_as_it_was(call, recorded, database):
    """At a version, or at the time at which it was recorded: its state, its messages, or its events up to there."""
    events = json.loads(call("show", recorded.talked, "--events", "--json").stdout)
    asked = [event for event in events if event["type"] == "message.appended"][2]
    for then in (("--version", asked["version"]), ("--at", asked["recorded_at"])):
        shown = json.loads(call("show", recorded.talked, "--json", *then).stdout)
        last = events[shown["session"]["version"] - 1]
        assert last["recorded_at"] == asked["recorded_at"]
        assert [message["version"] for message in shown["messages"]][-1] == asked["version"]
        assert shown["session"]["message_count"] == 3
        listed = json.loads(call("show", recorded.talked, "--events", "--json", *then).stdout)
        assert listed == events[: shown["session"]["version"]]
    text = call("show", recorded.talked, "--version", asked["version"]).stdout
    assert f"version {asked['version']}, 3 messages" in text
    assert "Be brief." in text


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--version", "99"), 1, "its last is 13"),
        (("--version", "0"), 1, "its last is 13"),
        (("--at", "2020-01-01T00:00:00Z"), 1, "had not begun"),
        (("--at", "lately"), 2, "at: must be a time"),
        (("--at", "2200-01-01T00:00:00Z", "--version", "1"), 2, "at: goes without version"),
        (("--damaged", "--version", "1"), 2, "damaged: goes without"),
    ],
)
def test_a_past_that_was_not(call, recorded, database, options, code, said):
    """A sentence says what there is; nothing is shown."""
    done = call("show", recorded.talked, *options)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


def test_damaged_words_are_not_shown(call, recorded, database):
    """The command ends with the position, in either form."""
    damage(database, 2)
    for form in ((), ("--json",), ("--events",), ("--events", "--json")):
        done = call("show", recorded.talked, *form)
        assert done.returncode == 1
        assert "the words of event 2 are not those that were recorded" in done.stderr
        assert "Is that" not in done.stdout


def test_the_rest_of_a_damaged_session_is_shown(call, recorded, database):
    """With --damaged: the row is named in its place, and all else is there."""
    damage(database, 2)
    shown = call("show", recorded.talked, "--damaged")
    assert shown.returncode == 0, shown.stderr
    assert "[damaged: the words of event 2 are not those that were recorded]" in shown.stdout
    assert "Grüße, 世界 🌍" in shown.stdout
    assert "Is that" not in shown.stdout
    messages = json.loads(call("show", recorded.talked, "--damaged", "--json").stdout)["messages"]
    assert [message.get("damaged", False) for message in messages] == [True, False, False, False]
    events = call("show", recorded.talked, "--damaged", "--events").stdout
    assert events.count("damaged: the words of event 2") == 1
    listed = json.loads(call("show", recorded.talked, "--damaged", "--events", "--json").stdout)
    assert [event["position"] for event in listed if event.get("damaged")] == [2]


def test_a_turn_whose_rows_are_damaged_is_shown_without_its_end(call, recorded, database):
    """The remark on how it ended is read from the turn, which is refused."""
    incomplete = query(database, "SELECT position FROM messages WHERE NOT complete")[0][0]
    damage(database, incomplete)
    shown = call("show", recorded.broken, "--damaged").stdout
    assert f"[damaged: the words of event {incomplete} are not those that were recorded, incomplete]" in shown


def damage(path, position):
    """Other words than those that were recorded."""
    said = "replace(replace(CAST(bytes AS TEXT), 'Is this', 'Is that'), 'Half', 'All')"
    attack(path, (f"UPDATE bodies SET bytes = CAST({said} AS BLOB) WHERE position = ?", (position,)))


def test_words_cannot_turn_a_line_round():
    """Marks that change the direction of a line are shown as what cannot be shown, like control characters."""
    assert printable("a\u202eb\u2066c\x1b[31m") == "a\ufffdb\ufffdc␛[31m"
