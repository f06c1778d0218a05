"""Random calls of OpenAI's Responses against a small model of what must be readable, with kills in their midst."""

import random
import signal

import pytest

from manent import engine
from tests.api.conftest import settings_on
from tests.api.harness import in_thread
from tests.api.responses_wire import RESPONSES, again, ask, check_story, post, refused, stream, text, whole
from tests.api.test_responses_state import engine_id, process, status, until

CHAINS, AT_ONCE = 500, 25
"""Chains that are played at length, and how many of them between two kills."""


class Model:
    """What must be readable: of each answer the texts up to it; those that were deleted have lost theirs."""

    def __init__(self):
        self.chains = {}
        self.deleted = set()

    def texts(self, answer):
        return [
            "" if each in self.deleted else f"words {number}"
            for each, number in self.chains[answer]
            for _ in ("asked", "said")
        ]


class Player:
    """Plays random calls against a server, and holds all that it says against the model."""

    def __init__(self, client, seed):
        self.client = client
        self.random = random.Random(seed)
        self.model = Model()
        self.number = 0

    def play(self, calls):
        for _ in range(calls):
            self.random.choice([self.begin, self.go_on, self.go_on, self.go_on, self.delete, self.retrieve])()
        self.check_all()

    def check_all(self):
        for answer in self.model.chains:
            self.check(answer)

    def pick(self):
        return self.random.choice(sorted(self.model.chains)) if self.model.chains else None

    def begin(self):
        self.run(None)

    def go_on(self):
        self.run(self.pick())

    def run(self, previous):
        self.number += 1
        given, chain = f"words {self.number}", [] if previous is None else self.model.chains[previous]
        fields = {} if previous is None else {"previous_response_id": previous}
        if any(each in self.model.deleted for each, _ in chain):
            refused(post(self.client, given, **fields), 404, "previous_response_not_found", "previous_response_id")
            return
        mode = self.random.choice(["whole", "stream", "background"])
        if mode == "stream":
            answer = stream(self.client, given, **fields)[-1]["response"]
        else:
            answer = ask(self.client, given, background=mode == "background", **fields)
            until(lambda: status(self.client, answer["id"]) == "completed")
        self.model.chains[answer["id"]] = [*chain, (answer["id"], self.number)]

    def delete(self):
        answer = self.pick()
        if answer is None:
            return
        response = self.client.delete(f"{RESPONSES}/{answer}")
        if answer in self.model.deleted:
            refused(response, 404, "response_not_found", "response_id")
        else:
            assert response.status_code == 200, response.text
            self.model.deleted.add(answer)

    def retrieve(self):
        answer = self.pick()
        if answer is not None:
            self.check(answer)

    def check(self, answer):
        response = self.client.get(f"{RESPONSES}/{answer}")
        if answer in self.model.deleted:
            refused(response, 404, "response_not_found", "response_id")
            return
        _, number = self.model.chains[answer][-1]
        assert text(whole(response.json())) == f"words {number}"
        events = again(self.client, answer)
        assert events[-1]["response"] == response.json()
        check_story(events)
        after = self.random.randrange(len(events))
        assert again(self.client, answer, starting_after=after) == events[after + 1 :]
        turn = self.client.get(f"/api/turns/{engine_id(answer)}").json()
        session = self.client.get(f"/api/sessions/{turn['session_id']}/messages?limit=1000").json()["items"]
        last = next(place for place, each in enumerate(session) if each["id"] == turn["message"]["id"])
        said_there = ["".join(block["text"] for block in each["content"] or []) for each in session[: last + 1]]
        assert said_there == self.model.texts(answer)


def played(folder, chains, calls):
    with in_thread(settings_on(folder)) as server, server.client() as client:
        for seed in range(chains):
            Player(client, seed).play(calls)
    assert engine.verify_database(str(server.database)).problem is None
    assert engine.rebuild_projections(str(server.database)).differed == ()


def test_random_chains(tmp_path):
    """Whatever is asked in whatever order: what must be readable is, and nothing else."""
    played(tmp_path, 50, 8)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_more_random_chains(tmp_path):
    """The same at length, and the server is killed in the midst of each."""
    for first in range(0, CHAINS, AT_ONCE):
        with process(tmp_path) as server, server.client() as client:
            players = [Player(client, seed) for seed in range(first, first + AT_ONCE)]
            for player in players:
                player.play(6)
            server.popen.send_signal(signal.SIGKILL)
            server.popen.wait()
        with process(tmp_path) as server, server.client() as client:
            for player in players:
                player.client = client
                player.check_all()
                player.play(6)
            assert server.stop() == 0
    assert engine.verify_database(str(tmp_path / "manent.db")).problem is None
    assert engine.rebuild_projections(str(tmp_path / "manent.db")).differed == ()
