"""A proof checked in the browser: against the bundle format's own example, and with every part of it changed."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.console.harness import begin, show

FORMAT = (Path(__file__).parents[2] / "engine/audit/bundle/FORMAT.md").read_text("utf-8")
CHECK = "return await m.checkProof(a0, a1, a2);"


def example(kind):
    """A block of the format's example."""
    return re.search(rf"```{kind}\n(.*?)\n```", FORMAT, re.DOTALL)[1]


@pytest.fixture(scope="module")
def known():
    """The example's event as the API lists it, its proof as the API gives it, and the log's key."""
    line = json.loads(example("json event"))
    leaf = example("json leaf")
    checkpoint = example("text checkpoint") + "\n"
    event = {
        **{name: line[name] for name in ("position", "version", "type", "schema", "actor", "id", "commitment")},
        "session_id": line["session"],
        "causation_id": line["causation"],
        "correlation_id": line["correlation"],
        "recorded_at": "2027-01-15T08:00:00.000000Z",
        "facts": line["facts"],
        "body": json.loads(line["body"]),
    }
    proof = {
        "position": 2,
        "index": 1,
        "size": 3,
        "leaf": leaf,
        "leaf_hash": example("hex leaf-hash"),
        "hashes": json.loads(example("json proof")),
        "root": "cefbe2fe5 2d".replace(" ", ""),
        "checkpoint": checkpoint,
        "salt": line["salt"],
        "body_base64": "",
    }
    return line, event, proof, example("text key")


@pytest.fixture(scope="module")
def whole(known, lab):
    """The same, with what is written in another way in a proof of the API."""
    line, event, proof, key = known
    root = lab("proof/check.js", "return m.hexOf(m.fromBase64(a0));", proof["checkpoint"].split("\n")[2])
    body = lab("proof/check.js", "return m.toBase64(m.utf8(a0));", line["body"])
    return event, proof | {"root": root, "body_base64": body}, key


def steps(result):
    return {step["name"]: step["state"] for step in result["steps"]}


def test_the_formats_example_holds(lab, whole):
    """Words, leaf, path, checkpoint and signature; who signed is said only where somebody brought a key."""
    event, proof, key = whole
    result = lab("proof/check.js", CHECK, event, proof, {"told": [key]})
    assert set(steps(result).values()) == {"good"}
    assert (result["state"], result["text"]) == ("good", "Consistent, signer not checked.")
    result = lab("proof/check.js", CHECK, event, proof, {"pasted": key})
    assert result["text"].startswith(
        "Consistent, and signed by manent/01a3185c-5000-7000-8000-000000000003/default+7e8cc29b"
    )


def changed(text, at=0):
    """The same text with another character at a place."""
    return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]


TAMPERED = {
    "body": ("Words", lambda proof: {"body_base64": "AAAA" + proof["body_base64"][4:]}),
    "longer body": ("Words", lambda proof: {"body_base64": proof["body_base64"] + "AAAA"}),
    "salt": ("Words", lambda proof: {"salt": changed(proof["salt"])}),
    "leaf": ("Leaf", lambda proof: {"leaf": proof["leaf"].replace('"local"', '"other"')}),
    "spaced leaf": ("Leaf", lambda proof: {"leaf": proof["leaf"].replace('":"', '": "', 1)}),
    "leaf hash": ("Leaf", lambda proof: {"leaf_hash": changed(proof["leaf_hash"])}),
    "first hash": ("Path", lambda proof: {"hashes": [changed(proof["hashes"][0]), proof["hashes"][1]]}),
    "last hash": ("Path", lambda proof: {"hashes": [proof["hashes"][0], changed(proof["hashes"][1], 63)]}),
    "one hash less": ("Path", lambda proof: {"hashes": proof["hashes"][:1]}),
    "one hash more": ("Path", lambda proof: {"hashes": [*proof["hashes"], proof["hashes"][0]]}),
    "index": ("Path", lambda _: {"index": 0}),
    "size": ("Checkpoint", lambda _: {"size": 4}),
    "root": ("Path", lambda proof: {"root": changed(proof["root"])}),
    "checkpoint's size": ("Checkpoint", lambda proof: {"checkpoint": proof["checkpoint"].replace("\n3\n", "\n4\n")}),
    "checkpoint's root": ("Checkpoint", lambda proof: {"checkpoint": proof["checkpoint"].replace("\nzvm", "\nzvn")}),
    "signature": ("Signature", lambda proof: {"checkpoint": proof["checkpoint"].replace("JmylnI", "JmylnJ")}),
    "no signature": ("Signature", lambda proof: {"checkpoint": proof["checkpoint"].split("\n\n")[0] + "\n\n"}),
}


@pytest.mark.parametrize("part", TAMPERED)
def test_whatever_is_changed_is_found(lab, whole, part):
    """In the step that it belongs to; and never is success claimed."""
    event, proof, key = whole
    step, change = TAMPERED[part]
    for keys in ({"told": [key]}, {"pasted": key}):
        result = lab("proof/check.js", CHECK, event, proof | change(proof), keys)
        assert steps(result)[step] == "bad", result
        assert (result["state"], result["text"]) == ("bad", "This does not prove what is shown.")


@pytest.mark.parametrize(
    "field",
    ["position", "version", "type", "actor", "id", "session_id", "recorded_at", "correlation_id", "facts", "body"],
)
def test_what_is_shown_is_what_is_proved(lab, whole, field):
    """A proof of another event than the one that is shown proves nothing."""
    event, proof, key = whole
    other = {"position": 3, "version": 3, "facts": event["facts"] | {"tokens": 6}, "body": {"content": []}}
    shown = event | {field: other.get(field, "2027-01-15T08:00:00.000001Z" if field == "recorded_at" else "x")}
    result = lab("proof/check.js", CHECK, shown, proof, {"pasted": key})
    assert result["state"] == "bad"


def test_erased_words_leave_the_rest_provable(lab, whole):
    """They are said to be gone, which is no failure."""
    event, proof, key = whole
    result = lab(
        "proof/check.js", CHECK, event | {"body": None}, proof | {"salt": None, "body_base64": None}, {"told": [key]}
    )
    assert steps(result)["Words"] == "gone"
    assert result["state"] == "good"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "There is no key of this log."),
        ("x", "A verifier key is written name+hash+key."),
        ("other+00000000+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4", "The key's hash is not its own."),
    ],
)
def test_a_key_that_is_none_signs_nothing(lab, whole, key, said):
    """Nor does one of another name."""
    event, proof, _ = whole
    result = lab("proof/check.js", CHECK, event, proof, {"pasted": key} if key else {"told": []})
    assert steps(result)["Signature"] == "bad"
    assert result["steps"][-1]["text"] == said


def test_without_ed25519_success_is_not_claimed(lab, whole):
    """Where a browser does not know it, that step is open, and so is the verdict."""
    event, proof, key = whole
    body = f"""const known = crypto.subtle.importKey;
      crypto.subtle.importKey = () => Promise.reject(new DOMException("no", "NotSupportedError"));
      try {{ {CHECK} }} finally {{ crypto.subtle.importKey = known; }}"""
    result = lab("proof/check.js", body, event, proof, {"pasted": key})
    assert steps(result)["Signature"] == "unchecked"
    assert (result["state"], result["text"]) == ("unchecked", "Not all of it could be checked here.")


@pytest.mark.parametrize(("size", "seed"), [(1, 1), (2, 1), (7, 2), (8, 3), (200, 4)])
def test_paths_are_followed_as_the_log_makes_them(lab, size, seed):
    """In trees of any shape, for every leaf; from no other place does a path lead to the root."""
    body = """
      const H = await import("/console/proof/check.js");
      const split = (n) => { let k = 1; while (k * 2 < n) k *= 2; return k; };
      const leaves = await Promise.all(Array.from({ length: a0 }, (_, at) => m.leafHash(`${at}`)));
      const root = async (of) => of.length === 1 ? of[0] : H.sha256(Uint8Array.of(1),
        await root(of.slice(0, split(of.length))), await root(of.slice(split(of.length))));
      const path = async (at, of) => {
        if (of.length === 1) return [];
        const k = split(of.length);
        return at < k ? [...await path(at, of.slice(0, k)), await root(of.slice(k))]
          : [...await path(at - k, of.slice(k)), await root(of.slice(0, k))];
      };
      const wanted = H.hexOf(await root(leaves));
      for (let at = 0; at < a0; at++) {
        const found = await m.rootOf(leaves[at], at, a0, await path(at, leaves));
        if (H.hexOf(found) !== wanted) return `leaf ${at}`;
        const moved = await m.rootOf(leaves[at], (at + 1) % a0, a0, await path(at, leaves));
        if (a0 > 1 && moved && H.hexOf(moved) === wanted) return `leaf ${at} elsewhere`;
      }
      return (await m.rootOf(leaves[0], a0, a0, [])) === null ? "good" : "beyond the end";"""
    assert lab("proof/check.js", body, size) == "good"


# --- in the page ------------------------------------------------------------------------------------------------------


def test_a_message_opens_its_proof(page, server, client):
    """One link from a message to its event, checked here: consistent, and no signer is claimed without a key."""
    session = begin(client, "Prove me.", model="scripted/plain")
    show(page, server, f"#/sessions/{session}")
    page.get_by_role("link", name="Proof").first.click()
    verdict = page.get_by_role("status").filter(has_text="Consistent")
    expect(verdict).to_have_text("Consistent, signer not checked.")
    expect(page.locator(".steps li.good")).to_have_count(5)
    key = client.get("/api/log/key").text.strip()
    page.get_by_label("Verifier key").fill(key)
    page.get_by_role("button", name="Check again").click()
    expect(page.get_by_text(f"Consistent, and signed by {'+'.join(key.split('+')[:2])}.")).to_be_visible()
    page.get_by_label("Verifier key").fill(key.replace("default+", "other+"))
    page.get_by_role("button", name="Check again").click()
    expect(page.get_by_text("This does not prove what is shown.")).to_be_visible()


@pytest.mark.slow
def test_a_server_that_lies_is_found_out(page, server, client):
    """Words other than the recorded ones, whatever the server says of them."""
    session = begin(client, "The true words.", model="scripted/plain")

    def lie(route):
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace("The true words.", "The false words."))

    page.route("**/events?*", lie)
    show(page, server, f"#/events/{session}/2", "message.appended")
    expect(page.get_by_text("The false words.")).to_be_visible()
    expect(page.get_by_text("This does not prove what is shown.")).to_be_visible()
    expect(page.locator(".steps li.bad")).to_contain_text("The words are others than those shown.")


NO_HASHES = "Object.defineProperty(Crypto.prototype, 'subtle', { get: () => undefined })"
NO_ED25519 = """const known = crypto.subtle.importKey.bind(crypto.subtle);
crypto.subtle.importKey = (form, data, how, ...rest) => how.name === "Ed25519"
  ? Promise.reject(new DOMException("none", "NotSupportedError")) : known(form, data, how, ...rest);"""


def test_a_page_that_cannot_hash_claims_nothing(watched, server, client):
    """As over plain HTTP from another machine: it says why, and gives the commands that do check."""
    session = begin(client, "Prove me.", model="scripted/plain")
    watch = watched(server)
    watch.context.add_init_script(NO_HASHES)
    show(watch.page, server, f"#/events/{session}/2", "message.appended")
    expect(watch.page.get_by_role("status").filter(has_text="Nothing was checked")).to_be_visible()
    expect(watch.page.get_by_role("group", name="Commands")).to_contain_text("manent verify")
    expect(watch.page.locator(".steps li")).to_have_count(0)
    expect(watch.page.locator("main")).not_to_contain_text("Consistent")


def test_a_browser_without_ed25519_says_so(watched, server, client):
    """What it can check is checked; of the signature it says that it cannot, and claims no success."""
    session = begin(client, "Prove me.", model="scripted/plain")
    watch = watched(server)
    watch.context.add_init_script(NO_ED25519)
    show(watch.page, server, f"#/events/{session}/2", "message.appended")
    expect(watch.page.get_by_text("Not all of it could be checked here.")).to_be_visible()
    expect(watch.page.locator(".steps li.unchecked")).to_contain_text("does not know Ed25519")
    expect(watch.page.locator(".steps li.good")).to_have_count(4)
    expect(watch.page.locator("main")).not_to_contain_text("Consistent")
