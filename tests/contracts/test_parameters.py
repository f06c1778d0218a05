"""Parameters of a turn: recorded with its attempts, sent as they were given, refused by name, derived again."""

import json
import re
from itertools import product

import msgspec
import pytest

from manent import engine
from manent.engine.errors import Erased, Invalid, ProviderUnavailable, TooLarge
from manent.engine.providers.anthropic.render import RENDERERS as OF_CLAUDE
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended, ModelInfo
from manent.engine.providers.openai.chat_render import RENDERERS as OF_CHAT
from manent.engine.providers.openai.responses_render import RENDERERS as OF_RESPONSES
from tests.contracts.test_recorded_replay import assert_same
from tests.support import Dictated, chatting, offered, says

ECHO = "echo/echo"
ANSWER = (BlockStarted(0, "text"), Delta(0, "Yes."), BlockStopped(0), Ended("end_turn"))
SCHEMA = {"type": "object", "properties": {"name of a town": {"type": "string"}}}
ALL = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "seed": -(2**63),
    "presence_penalty": -0.5,
    "frequency_penalty": 2,
    "logit_bias": {"15": -100, "7": 0.25},
    "response_format": {"type": "json_schema", "name": "town", "schema": SCHEMA, "strict": True},
    "reasoning": {"effort": "none"},
    "stop": "END",
}


class Rendering(Dictated):
    """Renders as a member does, with models of some capabilities."""

    def __init__(self, renderer, renderers, *steps, capabilities=None, name="dictated"):
        super().__init__(*steps)
        self.renderer = renderer
        self.renderers = renderers
        self.name = name
        self.capabilities = capabilities

    def model(self, name):
        return ModelInfo(name, "echo", capabilities=self.capabilities)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


async def attempts(chat, session):
    """Facts and body of all attempts."""
    events = (await chat.events(session, types=("attempt.started",))).items
    return [(json.loads(bytes(each.facts)), json.loads(bytes(each.body))) for each in events]


async def test_what_is_given_is_recorded_with_the_attempt(path):
    """Facts take numbers as decimal text and words of closed lists; schemas, names and tokens stand in the body."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO)).id
        await chat.say(session, "Hi.", **ALL)
        ((facts, body),) = await attempts(chat, session)
    assert {name: facts[name] for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty")} == {
        "temperature": "0.5",
        "top_p": "0.9",
        "presence_penalty": "-0.5",
        "frequency_penalty": "2.0",
    }
    assert (facts["top_k"], facts["seed"]) == (40, str(-(2**63)))
    assert (facts["response_format"], facts["reasoning_effort"]) == ("json_schema", "none")
    assert "town" not in json.dumps(facts)
    assert "logit_bias" not in facts
    assert body["answer"] == {"schema": SCHEMA, "name": "town", "strict": True}
    assert body["logit_bias"] == {"15": -100.0, "7": 0.25}
    assert body["stop"] == ["END"]


async def test_what_is_not_given_leaves_no_trace(path):
    """An attempt without them is recorded, and sent, as it always was."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO)).id
        turn = await chat.say(session, "Hi.", parallel_tool_calls=True)  # it has no tools
        ((facts, body),) = await attempts(chat, session)
        prompt = await chat.explain(turn.id)
    assert not {*ALL, "parallel_tool_calls"} & facts.keys()
    assert body.keys() == {"salt"}
    assert prompt.request_bytes == b'{"model":"echo","messages":[{"role":"user","text":"Hi."}]}'


async def test_a_request_with_all_of_them_is_explained(path):
    """Its bytes are derived again, and its parameters are shown."""
    async with chatting(path) as chat:
        turn = await chat.say((await chat.create_session(model=ECHO)).id, "Hi.", **ALL)
        prompt = await chat.explain(turn.id)
    assert prompt.matches
    said = json.loads(prompt.request_bytes)["parameters"]
    assert said["seed"] == ALL["seed"]
    assert said["response_format"] == ALL["response_format"]
    shown = json.loads(msgspec.json.encode(prompt.parameters))
    assert shown["logit_bias"] == {"15": -100.0, "7": 0.25}
    assert shown["response_format"] == ALL["response_format"]
    assert shown["reasoning"] == {"effort": "none"}
    assert prompt.parameters == engine.Parameters(
        temperature=0.5,
        stop=("END",),
        top_p=0.9,
        top_k=40,
        seed=-(2**63),
        presence_penalty=-0.5,
        frequency_penalty=2.0,
        logit_bias={"15": -100.0, "7": 0.25},
        response_format=engine.ResponseFormat("json_schema", "town", msgspec.Raw(msgspec.json.encode(SCHEMA)), True),
        reasoning=engine.Reasoning("none"),
    )


async def test_a_schema_falls_with_an_erasure(path):
    """It may say what nobody is to read any more: its text is gone from the file, and the request with it."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO)).id
        turn = await chat.say(session, "Hi.", **ALL)
        await chat.erase(session, "asked for", versions=None)
        with pytest.raises(Erased):
            await chat.explain(turn.id)
        (event,) = (await chat.events(session, types=("attempt.started",))).items
    assert event.body is None
    assert b"name of a town" not in path.read_bytes()


async def test_typed_values_are_taken_too(path):
    """A library caller may give structs in place of objects."""
    given = {
        "response_format": engine.ResponseFormat("json_schema", "town", msgspec.Raw(b'{ "type": "object" }')),
        "reasoning": engine.Reasoning(budget_tokens=2048),
    }
    async with chatting(path) as chat:
        turn = await chat.say((await chat.create_session(model=ECHO)).id, "Hi.", **given)
        parameters = (await chat.explain(turn.id)).parameters
    assert bytes(parameters.response_format.schema) == b'{"type":"object"}'
    assert parameters.reasoning == given["reasoning"]


async def test_a_schema_counts_in_the_window(path):
    """A model is told of it, so it takes its place in the budget."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO, budget_tokens=60)).id
        await chat.say(session, "Hi.")
        large = {"type": "object", "properties": {f"field_{number}": {} for number in range(30)}}
        with pytest.raises(engine.BudgetTooSmall):
            await chat.say(session, "Hi.", response_format={"type": "json_schema", "schema": large})


async def test_a_schema_has_a_bound(path):
    """Which names its setting."""
    async with chatting(path, max_schema_bytes=40) as chat:
        session = (await chat.create_session(model=ECHO)).id
        with pytest.raises(TooLarge) as refusal:
            await chat.say(session, "Hi.", response_format={"type": "json_schema", "schema": SCHEMA})
        assert refusal.value.extra["limit"] == "max_schema_bytes"
        assert (await chat.session(session)).version == 1


# --- what a model does not have ---------------------------------------------------------------------------------------

PROTOCOLS = {
    "openai-chat/1": (OF_CHAT, {"top_k": 1}, {"reasoning": {"budget_tokens": 9}}),
    "openai-chat-compat/1": (OF_CHAT, {"reasoning": {"budget_tokens": 9}}),
    "openai-responses/1": (
        OF_RESPONSES,
        {"stop": "END"},
        {"top_k": 1},
        {"seed": 1},
        {"presence_penalty": 1},
        {"frequency_penalty": 1},
        {"logit_bias": {"1": 1}},
    ),
    "anthropic-messages-2026/2": (
        OF_CLAUDE,
        {"seed": 1},
        {"presence_penalty": 1},
        {"frequency_penalty": 1},
        {"logit_bias": {"1": 1}},
        {"response_format": {"type": "json_object"}},
        {"reasoning": {"effort": "minimal"}},
        {"temperature": 1.5},
        {"stop": ["END", "\n"]},
    ),
}
REFUSED = [(name, renderers, given) for name, (renderers, *refused) in PROTOCOLS.items() for given in refused]


@pytest.mark.parametrize(("renderer", "renderers", "given"), REFUSED, ids=lambda each: str(each)[:40])
async def test_what_a_protocol_cannot_say_is_refused_by_name(path, renderer, renderers, given):
    """Before anything is recorded or sent; it is never left out."""
    provider = Rendering(renderer, renderers, *ANSWER)
    async with chatting(path, providers=(provider,)) as chat:
        session = (await chat.create_session(model="dictated/model")).id
        with pytest.raises(Invalid) as refusal:
            await chat.say(session, "Hi.", **given)
        assert (await chat.session(session)).version == 1
        assert (await chat.say(session, "Hi.")).status == "completed"
    assert refusal.value.code == "parameter_not_supported"
    assert re.split(r"\W", refusal.value.extra["field"])[0] in given


async def test_what_was_sent_before_it_was_refused_is_replayed_as_it_was_sent(path, monkeypatch):
    """A value that the vendor does not take was rendered once: it is on record, and derived again to the byte."""
    provider = Rendering("anthropic-messages/1", OF_CLAUDE, *ANSWER)
    async with chatting(path, providers=(provider,)) as chat:
        session = (await chat.create_session(model="dictated/model")).id
        with monkeypatch.context() as then:
            then.setattr("manent.engine.context.support.check_values", lambda *_: None)
            turn = await chat.say(session, "Hi.", temperature=1.5, stop=["\n"])
        assert (await chat.explain(turn.id)).matches
    assert b'"temperature":1.5' in provider.requests[0]
    await assert_same(path, 1)


CAPABILITIES = {
    "sampling": ({"temperature": 0}, {"top_p": 0.5}, {"presence_penalty": 1}, {"logit_bias": {"7": 1}}, {"top_k": 1}),
    "effort": ({"reasoning": {"effort": "low"}}, {"reasoning": {"effort": "none"}}),
    "thinking_budget": ({"reasoning": {"budget_tokens": 1024}},),
    "json_schema": ({"response_format": {"type": "json_schema", "schema": {}}},),
}


@pytest.mark.parametrize("capability", CAPABILITIES)
async def test_what_a_model_is_known_not_to_have_is_refused_by_name(path, capability):
    """A model of which nothing is known is asked, and its vendor decides."""
    others = tuple(each for each in CAPABILITIES if each != capability)
    for known, given in product((None, others), CAPABILITIES[capability]):
        provider = Rendering("echo/1", Dictated.renderers, *ANSWER, capabilities=known)
        async with chatting(path, providers=(provider,)) as chat:
            session = (await chat.create_session(model="dictated/model")).id
            if known is None:
                await chat.say(session, "Hi.", **given)
                continue
            with pytest.raises(Invalid, match="dictated/model does not have it") as refusal:
                await chat.say(session, "Hi.", **given)
            assert refusal.value.code == "parameter_not_supported"
        assert provider.requests == []


async def test_what_changes_nothing_is_taken_by_any_model(path):
    """Clients send the vendors' own defaults along, and the vendors take them of models that are not sampled."""
    given = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0, "logit_bias": {}}
    provider = Rendering("openai-chat/1", OF_CHAT, *ANSWER, capabilities=())
    async with chatting(path, providers=(provider,)) as chat:
        await chat.say((await chat.create_session(model="dictated/model")).id, "Hi.", **given)
    assert json.loads(provider.requests[0]).items() >= given.items()


async def test_a_model_that_does_not_reason_may_be_sampled(path):
    """The catalogue knows no sampling of models that reason; some have it once they do not."""
    provider = Rendering("openai-chat/1", OF_CHAT, *ANSWER, capabilities=("effort",))
    async with chatting(path, providers=(provider,)) as chat:
        session = (await chat.create_session(model="dictated/model")).id
        await chat.say(session, "Hi.", reasoning={"effort": "none"}, temperature=0.5)
    assert b'"temperature":0.5' in provider.requests[0]


async def test_a_fallback_model_that_cannot_be_told_is_not_asked(path):
    """The failure stands, and says which parameter kept the other model from answering."""
    busy = Rendering("echo/1", Dictated.renderers, ProviderUnavailable("busy"))
    spare = Rendering("anthropic-messages/1", OF_CLAUDE, *ANSWER, name="spare")
    async with chatting(path, providers=(busy, spare)) as chat:
        session = (await chat.create_session(model="dictated/a", fallback_model="spare/b")).id
        turn = await chat.say(session, "Hi.", seed=7)
        assert turn.status == "failed"
        assert turn.error.detail.endswith("; the fallback model spare/b takes no seed")
        assert (await chat.say(session, "Hi.", top_p=0.5)).status == "completed"
        hot = await chat.say(session, "Hi.", temperature=1.5)
        assert hot.error.detail.endswith("; the fallback model spare/b takes no temperature")
    assert len(spare.requests) == 1


async def test_parameters_outlive_a_pause_and_a_restart(path):
    """A turn that waited for a person goes on with what it was given; later rounds too."""

    @engine.tool(approval=True)
    async def pays() -> str:
        """Pays."""
        return "paid"

    script = says({"tool": {"id": "c1", "name": "pays", "input": {}}}), says({"text": "Done."})
    models = {"main": [step for steps in script for step in steps]}
    async with chatting(path, tools=(pays,), **models) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        turn = await chat.say(session, "Pay.", tools=("pays",), parallel_tool_calls=False, **ALL)
        assert turn.status == "requires_action"
    async with chatting(path, tools=(pays,), **models) as chat:
        await chat.decide(turn.id, "c1", approve=True)
        assert (await chat.ended(turn.id)).status == "completed"
        prompts = [await chat.explain(turn.id, attempt=number) for number in (1, 2)]
        assert all(prompt.matches for prompt in prompts)
    assert prompts[0].parameters == prompts[1].parameters
    assert prompts[0].parameters.parallel_tool_calls is False


async def test_a_call_at_a_time_is_asked_for_with_tools_alone(path):
    """With tools it is sent and recorded."""
    provider = Rendering("anthropic-messages/1", OF_CLAUDE, *ANSWER)
    async with chatting(path, providers=(provider,)) as chat:
        session = (await chat.create_session(model="dictated/model")).id
        await chat.say(session, "Hi.", client_tools=offered("look"), parallel_tool_calls=False)
        ((facts, _),) = await attempts(chat, session)
    assert facts["parallel_tool_calls"] is False
    assert json.loads(provider.requests[0])["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


async def test_a_turn_with_parameters_is_replayed_from_the_record(path):
    """With what it was given: the requests of today's code are those of then."""
    script = says({"tool": {"id": "c1", "name": "timestamp", "input": {}}}), says({"text": "Done."})
    models = {"main": [step for steps in script for step in steps]}
    async with chatting(path, **models) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        await chat.say(session, "Go.", tools=("timestamp",), parallel_tool_calls=False, **ALL)
        await chat.say(session, "And?", reasoning={"budget_tokens": 2048}, response_format={"type": "json_object"})
    await assert_same(path, 2)


async def test_a_client_that_keeps_its_history_may_give_them_too(path):
    """Its request is checked as a native one is, a schema counts in it, and it is derived again."""
    said = (engine.MessageIn("Hi."),)
    async with chatting(path) as chat:
        started = await chat.answer_client(engine.ClientRequest(said, {"model": ECHO, **ALL}))
        turn = await chat.ended(started.turn)
        prompt = await chat.explain(turn.id)
        assert prompt.matches
        assert prompt.parameters.seed == ALL["seed"]
        assert prompt.window.tool_tokens > 0
    blind = Rendering("echo/1", Dictated.renderers, *ANSWER, capabilities=())
    async with chatting(path, providers=(blind,)) as chat:
        with pytest.raises(Invalid, match="top_p: dictated/model does not have it"):
            await chat.answer_client(engine.ClientRequest(said, {"model": "dictated/model", "top_p": 0.5}))
