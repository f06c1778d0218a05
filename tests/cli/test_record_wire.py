"""``scripts/record_wire``: a provider's stream, here a loopback upstream's, becomes a fixture without any secrets."""

import json
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "record_wire.py"
WIRE = ROOT / "tests" / "golden" / "wire"

KEY = "sk-proj-Zx81kq0Wb3nT5vLm7Yp2"
UUIDS = ("7f3f0a52-16c5-4c1b-9a41-9d5b8c1f20aa", "c1b19a41-52aa-4f3f-8a52-16c57f3f0a52")
HEADERS = (  # of one account and of another, or of one request and of the next
    {
        "request-id": "req_011CVabcDEFghi4567",
        "x-request-id": "req_5d2f1c9eab34",
        "openai-organization": "acme-rockets-inc",
        "openai-project": "proj_aB3dE5fG7hJ9",
        "anthropic-organization-id": UUIDS[0],
        "set-cookie": "__cf_bm=bM3fQ9.x7-1700000000; path=/; HttpOnly",
        "cf-ray": "8f2b1c3d4e5f-AMS",
    },
    {
        "request-id": "req_099ZYXwvuTSRqp7654",
        "x-request-id": "req_77aa88bb99cc",
        "openai-organization": "other-people-gmb",
        "openai-project": "proj_Zz9Yy8Xx7Ww6",
        "anthropic-organization-id": UUIDS[1],
        "set-cookie": "__cf_bm=Zq8rT1.k2-1800000000; path=/; HttpOnly",
        "cf-ray": "1a2b3c4d5e6f-FRA",
    },
)
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "claude": "/v1/messages"}
PREFIXES = {"chat": "openai", "responses": "responses", "claude": "claude"}
DELTAS = {
    "chat": b'{"id":"chatcmpl-Gone12345678","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":%s},"finish_reason":null}]}',
    "responses": b'{"type":"response.output_text.delta","sequence_number":5,"item_id":"msg_Gone12345678",'
    b'"output_index":0,"content_index":0,"delta":%s,"logprobs":[]}',
    "claude": b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%s}}',
}
FIRST_WORDS = {
    "chat": b'"delta":{"content":"',
    "responses": b'"type":"response.output_text.delta"',
    "claude": b'"text_delta"',
}


class Upstream:
    """Answers with ``plays``, one after the other: (status, headers, body); keeps what it was asked."""

    def __init__(self):
        self.plays, self.asked = [], []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                upstream.asked.append((self.path, dict(self.headers.items()), json.loads(body)))
                status, headers, data = upstream.plays.pop(0)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("connection", "close")
                self.end_headers()
                for at in range(0, len(data), 97):
                    self.wfile.write(data[at : at + 97])

            def log_message(self, *_):
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def will_say(self, data, status=200, **headers):
        kind = "text/event-stream" if status == 200 else "application/json"
        self.plays.append((status, {"content-type": kind} | HEADERS[0] | headers, data))

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def upstream():
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture
def record(call, upstream, tmp_path):
    """The command, on the upstream, into a folder of its own; by default with both keys."""
    upstream.plays.clear()
    upstream.asked.clear()
    names = {
        "MANENT_OPENAI_BASE_URL": f"{upstream.address}/v1",
        "MANENT_ANTHROPIC_BASE_URL": upstream.address,
        "OPENAI_API_KEY": KEY,
        "ANTHROPIC_API_KEY": KEY,
    }

    def record(*command, **more):
        return call(*command, "--folder", tmp_path, script=SCRIPT, **names | more)

    return record


def golden(name):
    return (WIRE / f"{name}.sse").read_bytes()


def saying(protocol, *texts):
    """A whole stream that also says these, a piece each."""
    before, mark, rest = golden(f"{PREFIXES[protocol]}_text").partition(FIRST_WORDS[protocol])
    end = rest.index(b"\n\n") + 2
    said = b"".join(b"data: " + DELTAS[protocol] % json.dumps(text).encode() + b"\n\n" for text in texts)
    return before + mark + rest[:end] + said + rest[end:]


def ids_out(data):
    """The stream with nothing in the fields that are replaced."""
    return re.sub(
        rb'"(id|item_id|call_id|tool_use_id|encrypted_content|encrypted_index|signature|data)":"[^"]+"',
        rb'"\1":""',
        data,
    )


FIXTURES = {
    "chat": ["openai_text", "openai_tools", "openai_refusal", "halves", "vllm_reasoning", "ollama_tools"],
    "responses": [
        "responses_text",
        "responses_tools",
        "responses_reasoning",
        "responses_incomplete",
        "responses_unknown",
    ],
    "claude": ["claude_text", "claude_tools", "claude_thinking", "claude_cache", "claude_pause_turn", "claude_halves"],
}


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(("protocol", "name"), [(each, name) for each, names in FIXTURES.items() for name in names])
def test_a_stream_is_kept_byte_for_byte_but_for_ids(record, upstream, tmp_path, protocol, name, line_end):
    """Comments, escapes, spacing and the ends of lines stay; ids and opaque blocks become others of their length."""
    came = golden(name).replace(b"\n", line_end)
    upstream.will_say(came)
    done = record(protocol, "again")
    assert done.returncode == 0, done.stderr
    kept = (tmp_path / f"{PREFIXES[protocol]}_again.sse").read_bytes()
    assert ids_out(kept) == ids_out(came)
    assert len(kept) == len(came)
    assert not {path.name for path in tmp_path.iterdir()} - {f"{PREFIXES[protocol]}_again.sse"}
    long_ids = set(re.findall(rb'"(?:id|item_id|call_id)":"([^"]{12,})"', came))
    assert not [each for each in long_ids if each in kept]


@pytest.mark.parametrize("protocol", PATHS)
def test_recording_again_gives_the_same(record, upstream, tmp_path, protocol):
    """Two accounts, two requests, other ids everywhere: the same bytes, so that a refreshed fixture differs in what the
    provider changed alone.
    """
    first = golden({"chat": "openai_tools", "responses": "responses_tools", "claude": "claude_tools"}[protocol])
    ids = re.findall(rb'"(?:id|item_id|call_id)":"((?:chatcmpl|call|resp|msg|toolu|fc|rs)[-_][^"]+)"', first)
    second = first
    for number, one in enumerate(dict.fromkeys(ids)):
        prefix, sign, rest = re.match(rb"([a-z]+)([-_])(.*)", one).groups()
        other = prefix + sign + (b"%d" % (number + 3)).rjust(len(rest), b"Q")
        second = second.replace(b'"%s"' % one, b'"%s"' % other)
    assert second != first
    kept = []
    for name, stream, headers in (("one", first, HEADERS[0]), ("two", second, HEADERS[1])):
        upstream.will_say(stream, **headers)
        assert record(protocol, name).returncode == 0
        kept.append((tmp_path / f"{PREFIXES[protocol]}_{name}.sse").read_bytes())
    assert kept[0] == kept[1]


SECRETS = [
    KEY,
    "sk-ant-api03-AAbbCC112233",
    "org-Q1w2E3r4T5y6",
    *(value for name, value in HEADERS[0].items() if name != "set-cookie"),
    "bM3fQ9.x7-1700000000",
    "ft:gpt-4o-mini:acme:thing:9xYz12Ab",
    "user-A1b2C3d4E5f6G7h8",
]


@pytest.mark.parametrize("protocol", PATHS)
@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_is_kept_wherever_it_stands(record, upstream, tmp_path, protocol, secret):
    """The keys, what the answer's headers say of account and request, and all that has such a form."""
    upstream.will_say(saying(protocol, f"It is {secret}, is it not? \N{GRINNING FACE}"))
    done = record(protocol, "secret")
    assert done.returncode == 0, done.stderr
    kept = (tmp_path / f"{PREFIXES[protocol]}_secret.sse").read_text("utf-8")
    assert secret not in kept
    assert ", is it not? " in kept
    assert secret not in done.stdout + done.stderr


def test_the_same_is_replaced_by_the_same(record, upstream, tmp_path):
    """An id keeps its prefix and its length, wherever it stands; short ones too, in their fields alone."""
    chunk = b'data: {"id":"%s","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n'
    end = b'data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    upstream.will_say(
        chunk % (b"chatcmpl-B9MHDbslfkBe", b"see chatcmpl-B9MHDbslfkBe, c1 and c2.")
        + chunk % (b"c2", b" \\u0041" + UUIDS[0].encode())
        + chunk % (b"chatcmpl-B9MHDbslfkBe", b"!")
        + end
    )
    assert record("chat", "same").returncode == 0
    kept = (tmp_path / "openai_same.sse").read_bytes()
    assert kept == (
        chunk % (b"chatcmpl-000000000001", b"see chatcmpl-000000000001, c1 and c2.")
        + chunk % (b"01", b" \\u004100000000-0000-0000-0000-000000000002")
        + chunk % (b"chatcmpl-000000000001", b"!")
        + end.replace(b'"c1"', b'"03"')
    )


def test_what_is_asked(record, upstream):
    """A short question in the product's own form, with the key in its place; a tool that must be called; or a file's
    JSON as it stands.
    """
    for protocol, path in PATHS.items():
        upstream.will_say(golden(f"{PREFIXES[protocol]}_text"))
        done = record(protocol, "plain", "--model", "some-model", "--prompt", "Why?", "--max-output-tokens", "99")
        assert done.returncode == 0, done.stderr
        asked_at, headers, body = upstream.asked[-1]
        assert asked_at == path
        assert body["stream"] is True
        assert body["model"] == "some-model"
        assert "Why?" in json.dumps(body)
        assert "99" in json.dumps(body)
        assert KEY in (headers.get("x-api-key", ""), headers.get("authorization", "").removeprefix("Bearer "))
        assert "tools" not in body
    upstream.will_say(golden("claude_tools"))
    assert record("claude", "tooled", "--tools", "--anthropic-version", "2026-10-21").returncode == 0
    _, headers, body = upstream.asked[-1]
    assert [tool["name"] for tool in body["tools"]] == ["forecast"]
    assert body["tool_choice"]["type"] == "any"
    assert headers["anthropic-version"] == "2026-10-21"


def test_a_request_of_ones_own_is_sent_as_it_stands(record, upstream, tmp_path):
    """For what the product does not ask for: thinking, tools that run at the vendor, long conversations."""
    given = {"model": "m", "stream": True, "thinking": {"type": "enabled", "budget_tokens": 1024}, "messages": []}
    (tmp_path / "request.json").write_text(json.dumps(given), encoding="utf-8")
    upstream.will_say(golden("claude_thinking"))
    done = record("claude", "own", "--request", tmp_path / "request.json")
    assert done.returncode == 0, done.stderr
    assert upstream.asked[-1][2] == given


def test_what_was_written_is_told(record, upstream):
    """The file, its size and its chunks, and how much was replaced; never a value."""
    upstream.will_say(golden("claude_tools"))
    done = record("claude", "told")
    assert re.match(r"claude_told\.sse: \d+ bytes, .*3 VendorBlock|claude_told\.sse: \d+ bytes, ", done.stdout)
    assert "1 msg_" in done.stdout
    assert "3 toolu_" in done.stdout


# --- what is not written ----------------------------------------------------------------------------------------------

TEXT = {protocol: golden(f"{prefix}_text") for protocol, prefix in PREFIXES.items()}
REFUSALS = [  # protocol, status, body, what is said
    ("chat", 200, TEXT["chat"][:-20], "ended without"),
    ("responses", 200, TEXT["responses"][:-200], "ended without"),
    ("claude", 200, TEXT["claude"][:-40], "ended without"),
    ("claude", 200, b"", "ended without"),
    ("claude", 200, b"data: {oops\n\n", "nothing was written"),
    ("chat", 200, b'data: {"error": {"message": "no", "code": "overloaded"}}\n\n', "nothing was written"),
    ("responses", 200, golden("responses_failed"), "nothing was written"),
    ("chat", 401, b'{"error": {"message": "Incorrect API key provided: %s."}}' % KEY.encode(), "Incorrect API key"),
    ("claude", 404, b'{"error": {"message": "model: no-such"}, "request_id": "req_011CVabcDEFghi4567"}', "no-such"),
    ("claude", 529, b'{"error": {"type": "overloaded_error"}}', "overloaded_error"),
]


@pytest.mark.parametrize(("protocol", "status", "body", "words"), REFUSALS)
def test_what_is_no_whole_stream_is_not_kept(record, upstream, tmp_path, protocol, status, body, words):
    """It ends in exit code 1 and a sentence, which quotes the provider without its secrets; nothing is written."""
    upstream.will_say(body, status)
    done = record(protocol, "broken")
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    for secret in (KEY, "req_011CVabcDEFghi4567"):
        assert secret not in done.stderr
    assert not list(tmp_path.glob("*"))


@pytest.mark.parametrize("cut", [2, 5, 10, 15])
@pytest.mark.parametrize("secret", [KEY, "acme-rockets-inc", "org-Q1w2E3r4T5y6W7q8"])
def test_a_secret_in_two_pieces_is_seen(record, upstream, tmp_path, secret, cut):
    """It cannot be replaced where no piece holds all of it; then nothing is written."""
    upstream.will_say(saying("chat", f"It is {secret[:cut]}", secret[cut:]))
    done = record("chat", "split")
    assert (done.returncode, done.stdout) == (1, "")
    assert "lies in several pieces" in done.stderr
    assert not list(tmp_path.glob("*"))


def test_nobody_there(record, tmp_path):
    """A provider that cannot be reached is exit code 1."""
    done = record("chat", "gone", MANENT_OPENAI_BASE_URL="http://127.0.0.1:1/v1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "could not be reached" in done.stderr
    assert not list(tmp_path.glob("*"))


def test_a_fixture_that_is_there_is_not_lost(record, upstream, tmp_path):
    """Not without --force, and not if the new stream is none."""
    there = tmp_path / "claude_text.sse"
    there.write_bytes(b"as it was")
    done = record("claude", "text")
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert not upstream.asked
    upstream.will_say(b"")
    assert record("claude", "text", "--force").returncode == 1
    assert there.read_bytes() == b"as it was"
    upstream.will_say(golden("claude_text"))
    assert record("claude", "text", "--force").returncode == 0
    assert ids_out(there.read_bytes()) == ids_out(golden("claude_text"))


@pytest.mark.parametrize(
    ("command", "names", "words"),
    [
        ((), {}, "Missing argument"),
        (("chat",), {}, "Missing argument"),
        (("telnet", "x"), {}, "'telnet' is not one of"),
        (("chat", "../x"), {}, "must be 1 to 40 characters"),
        (("chat", "X"), {}, "must be 1 to 40 characters"),
        (("chat", "x", "--max-output-tokens", "0"), {}, "max-output-tokens"),
        (("chat", "x", "--colour"), {}, "No such option"),
        (("chat", "x", "--request", "missing.json"), {}, "cannot be read"),
        (("chat", "x", "--request", "array.json"), {}, "is no object of JSON"),
        (("chat", "x", "--request", "waiting.json"), {}, '"stream": true'),
        (("chat", "x"), {"MANENT_OPENAI_BASE_URL": "ftp://x"}, "openai_base_url"),
        (("chat", "x"), {"OPENAI_API_KEY": "a b"}, "must be printable ASCII"),
        (("chat", "x"), {"OPENAI_API_KEY": "", "OPENAI_API_KEY_FILE": "missing"}, "cannot be read"),
        (("chat", "x"), {"OPENAI_API_KEY": "", "MANENT_OPENAI_BASE_URL": ""}, "OPENAI_API_KEY: is not set"),
        (("responses", "x"), {"OPENAI_API_KEY": "", "MANENT_OPENAI_BASE_URL": ""}, "OPENAI_API_KEY: is not set"),
        (("claude", "x"), {"ANTHROPIC_API_KEY": "", "MANENT_ANTHROPIC_BASE_URL": ""}, "ANTHROPIC_API_KEY: is not set"),
    ],
)
def test_wrong_use_is_told_before_anything_is_asked(record, upstream, tmp_path, command, names, words):
    """Exit code 2 and a sentence."""
    (tmp_path / "array.json").write_text("[]", encoding="utf-8")
    (tmp_path / "waiting.json").write_text('{"model": "m"}', encoding="utf-8")
    done = record(*command, **names)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert KEY not in done.stderr
    assert not upstream.asked
    assert not list(tmp_path.glob("*.sse"))


def test_a_folder_that_is_none(call):
    """It is not made."""
    done = call("chat", "x", "--folder", "missing", script=SCRIPT, OPENAI_API_KEY=KEY)
    assert done.returncode == 2
    assert "does not exist" in done.stderr


@pytest.mark.parametrize("command", ["serve", "chat"])
def test_no_key_is_an_option(call, command):
    """Options stand in the lists of processes: a vendor's key comes from the environment or from a file."""
    assert not re.search("--(openai|anthropic)-api-key", call(command, "--help").stdout)


def test_the_help_says_how(call):
    """What it does, its protocols, where keys come from."""
    done = call("--help", script=SCRIPT)
    assert done.returncode == 0
    for expected in ("chat|responses|claude", "OPENAI_API_KEY_FILE", "--request", "--force", "--tools"):
        assert expected in done.stdout
    assert "--openai-api-key" not in done.stdout


def test_the_command_is_there(environment, tmp_path):
    """``scripts/record_wire`` is the same for those who have no environment yet; it can be run, and its file too."""
    shell = ROOT / "scripts" / "record_wire"
    assert shell.stat().st_mode & SCRIPT.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", shell], check=False).returncode == 0
    assert 'scripts/record_wire.py" "$@"' in shell.read_text("utf-8")
