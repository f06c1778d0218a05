"""Routes: names that stand for several models. The choice follows the rule of the route, and is on record with why."""

import json

import pytest

from manent import engine
from manent.engine.clock import SystemClock
from manent.engine.errors import Invalid, ProviderUnavailable, UnknownModel
from manent.engine.events.usage import Price
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended, ModelInfo
from manent.engine.providers.registry import Providers
from manent.engine.providers.routes import LONG_TOKENS, Asked
from manent.engine.providers.routes_file import add_routes, read_routes
from tests.support import Dictated, chatting, offered
from tests.upstream import KEY, WIRES, upstream

ANSWER = (BlockStarted(0, "text"), Delta(0, "Yes."), BlockStopped(0), Ended("end_turn"))
CHAT, RESPONSES, CLAUDE = WIRES
SCHEMA = {"type": "json_schema", "schema": {"type": "object"}}
IMAGE = b'{"type":"image","source":{"type":"url","url":"https://example.org/a.png"}}'
LONG = "word " * (LONG_TOKENS + 10)


class Member(Dictated):
    """A provider of one kind of models."""

    def __init__(self, name, *steps, capabilities=None, price=None, context=None):
        super().__init__(*(steps or ANSWER))
        self.name = name
        self.info = ModelInfo("m", "echo", context, None, capabilities, () if price is None else (price,))

    def model(self, name):
        return self.info if name == "m" else None

    def models(self):
        return [self.info]


def price(dollars, currency="USD"):
    return Price(input=dollars * 10**6, output=dollars * 10**6, currency=currency)


def routing(path, *members, settings=None, **routes):
    """An engine with these members and routes."""
    file = path.with_name("routes.json")
    file.write_text(json.dumps({"routes": routes}))
    return chatting(path, providers=members, routes_file=str(file), **(settings or {}))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


async def chosen(chat, session):
    """Provider, place and reason of each attempt."""
    events = (await chat.events(session, types=("attempt.started",))).items
    facts = [json.loads(bytes(each.facts)) for each in events]
    return [(each["provider"], each.get("route_index"), each.get("route_reason")) for each in facts]


async def asked(chat, route, content="Hi.", **options):
    """The choice for a turn of a session of its own."""
    session = (await chat.create_session(model=route, budget_tokens=100_000)).id
    turn = await chat.say(session, content, **options)
    (choice,) = await chosen(chat, session)
    return choice, turn


TASKS = {
    "plain": ("Hi.", {}, ("c", 2, "plain")),
    "named": ("Hi.", {"task": "law"}, ("a", 0, "task")),
    "named, unknown": ("Hi.", {"task": "cooking"}, ("c", 2, "plain")),
    "named before seen": (LONG, {"task": "law"}, ("a", 0, "task")),
    "an image": (engine.MessageIn((IMAGE,)), {}, ("b", 1, "images")),
    "tools": ("Hi.", {"client_tools": offered("look")}, ("a", 0, "tools")),
    "JSON": ("Hi.", {"response_format": {"type": "json_object"}}, ("c", 2, "plain")),
    "reasoning": ("Hi.", {"reasoning": {"effort": "low"}}, ("b", 1, "reasoning")),
    "no reasoning": ("Hi.", {"reasoning": {"effort": "none"}}, ("c", 2, "plain")),
    "a long text": (LONG, {}, ("b", 1, "long")),
}


@pytest.mark.parametrize(("content", "options", "choice"), TASKS.values(), ids=TASKS)
async def test_by_task(path, content, options, choice):
    """The first model for the task, else the first that is for any; the reason says what was seen."""
    models = [
        {"model": "a/m", "tasks": ["law", "tools"]},
        {"model": "b/m", "tasks": ["images", "reasoning", "long"]},
        "c/m",
    ]
    async with routing(path, *map(Member, "abc"), r={"by": "task", "models": models}) as chat:
        found, turn = await asked(chat, "route/r", content, **options)
        assert found == choice
        assert turn.model == f"{choice[0]}/m"
        assert (await chat.explain(turn.id)).matches


async def test_by_cost(path):
    """The cheapest that can do what is asked; what has no known price comes last, and so does another currency."""
    members = (
        Member("unknown"),
        Member("dear", price=price(9), capabilities=("images", "json_schema")),
        Member("euro", price=price(1, "EUR")),
        Member("cheap", price=price(2), capabilities=("sampling",)),
    )
    models = [f"{member.name}/m" for member in members]
    async with routing(path, *members, r={"by": "cost", "models": models}) as chat:
        assert (await asked(chat, "route/r"))[0] == ("cheap", 3, "cheapest")
        assert (await asked(chat, "route/r", temperature=0))[0] == ("cheap", 3, "cheapest")
        assert (await asked(chat, "route/r", response_format=SCHEMA))[0] == ("dear", 1, "able")
        image = engine.MessageIn((IMAGE,))
        assert (await asked(chat, "route/r", image))[0] == ("dear", 1, "able")
        assert (await asked(chat, "route/r", image, temperature=0))[0] == ("unknown", 0, "able")


async def test_a_model_without_room_is_passed_over(path):
    """A conversation that is too long for the cheapest is not too long for another."""
    small, large = Member("small", price=price(1), context=300), Member("large", price=price(2))
    async with routing(path, small, large, r={"by": "cost", "models": ["small/m", "large/m"]}) as chat:
        assert (await asked(chat, "route/r", LONG))[0] == ("large", 1, "able")


async def test_by_balance(path):
    """One after the other; a check, or a look at the window, takes nobody's turn."""
    async with routing(path, *map(Member, "abc"), r={"by": "balance", "models": ["a/m", "b/m", "c/m"]}) as chat:
        found = []
        for _ in range(7):
            await chat.serving.check_turn("Hi.", model="route/r")
            found.append((await asked(chat, "route/r"))[0])
    assert [provider for provider, *_ in found] == list("abcabca")
    assert {reason for *_, reason in found} == {"next"}


async def test_one_that_keeps_failing_is_left_alone(path):
    """While its circuit breaker is open the others answer; then it is tried again."""
    bad = Member("a", ProviderUnavailable("gone"))
    settings = {"breaker_failures": 1, "breaker_open_s": 1}
    route = {"by": "balance", "models": ["a/m", "b/m"]}
    async with routing(path, bad, Member("b"), settings=settings, r=route) as chat:
        found = [(await asked(chat, "route/r"))[0] for _ in range(4)]
        assert found == [("a", 0, "next"), ("b", 1, "next"), ("b", 1, "breaker"), ("b", 1, "breaker")]
        guards = chat._parts.turns._supervisor.runtime.guards
        guards._by_name["a"][0]._open_until_s = 0.0
        assert (await asked(chat, "route/r"))[0][0] == "a"


async def test_a_turn_stays_with_its_model(path):
    """The rounds after the first ask the same model, whatever the route would choose by then."""
    call = (BlockStarted(0, "tool_use", "c1", "timestamp"), Delta(0, "{}"), BlockStopped(0), Ended("tool_use"))

    class Calls(Member):
        async def stream(self, request):
            self.requests.append(request)
            for chunk in call if len(self.requests) == 1 else ANSWER:
                yield chunk

    async with routing(path, Calls("a"), Member("b"), r={"by": "balance", "models": ["a/m", "b/m"]}) as chat:
        session = (await chat.create_session(model="route/r")).id
        turn = await chat.say(session, "Go.", tools=["timestamp"])
        assert turn.status == "completed"
        assert [provider for provider, *_ in await chosen(chat, session)] == ["a", "a"]
        assert (await chat.session(session)).model == "route/r"


async def test_a_route_can_be_the_fallback(path):
    """Its choice is recorded with the attempt that it was made for."""
    bad = Member("bad", ProviderUnavailable("gone"))
    route = {"by": "cost", "models": ["a/m", "b/m"]}
    async with routing(path, bad, Member("a", price=price(2)), Member("b", price=price(1)), r=route) as chat:
        session = (await chat.create_session(model="bad/m", fallback_model="route/r")).id
        assert (await chat.say(session, "Hi.")).status == "completed"
        assert await chosen(chat, session) == [("bad", None, None), ("b", 1, "cheapest")]


async def test_a_client_that_keeps_its_history_is_routed_too(path):
    """Its whole conversation has to have room at the model that is chosen."""
    small, large = Member("small", price=price(1), context=300), Member("large", price=price(2))
    async with routing(path, small, large, r={"by": "cost", "models": ["small/m", "large/m"]}) as chat:
        for text, choice in (("Hi.", ("small", 0, "cheapest")), (LONG, ("large", 1, "able"))):
            request = engine.ClientRequest((engine.MessageIn(text),), {"model": "route/r"})
            turn = await chat.ended((await chat.answer_client(request)).turn)
            assert await chosen(chat, turn.session_id) == [choice]
            assert (await chat.explain(turn.id)).matches


async def test_if_none_can_the_first_refusal_stands(path):
    """And nothing is recorded."""
    members = Member("a", capabilities=("text",)), Member("b", capabilities=("text",))
    async with routing(path, *members, r={"by": "task", "models": ["a/m", "b/m"]}) as chat:
        session = (await chat.create_session(model="route/r")).id
        with pytest.raises(Invalid, match="top_p: a/m does not have it"):
            await chat.say(session, "Hi.", top_p=0.5)
        assert (await chat.session(session)).version == 1


async def test_a_task_goes_with_a_route(path):
    """For a model it means nothing, so it is refused and not passed over."""
    async with routing(path, Member("a"), r={"by": "balance", "models": ["a/m"]}) as chat:
        session = (await chat.create_session(model="a/m")).id
        for task, code in (("law", "parameter_not_supported"), ("a b", "invalid_value")):
            with pytest.raises(Invalid) as refusal:
                await chat.say(session, "Hi.", task=task)
            assert (refusal.value.code, refusal.value.extra["field"]) == (code, "task")


async def test_routes_are_listed(path):
    """As models of the provider `route`; a window and a count are those of the first model of the route."""
    async with routing(path, Member("a"), r={"by": "balance", "models": ["a/m"]}) as chat:
        assert "route/r" in [model.name for model in chat.models()]
        assert chat.model("route/r").provider == "route"
        session = (await chat.create_session(model="route/r")).id
        assert (await chat.window(session)).model == "route/r"
        assert (await chat.count_tokens("route/r", "Hi.")).tokens
        with pytest.raises(UnknownModel):
            await chat.create_session(model="route/s")


# --- the file ---------------------------------------------------------------------------------------------------------

WRONG = {
    "no JSON": ("{", "malformed|truncated"),
    "another field": ({"routes": {}, "x": 1}, "unknown field `x`"),
    "another rule": ({"routes": {"r": {"by": "luck", "models": ["a/m"]}}}, r"by|`\$\.routes"),
    "an empty list": ({"routes": {"r": {"by": "cost", "models": []}}}, r"routes\.r\.models: is empty"),
    "an unknown model": (
        {"routes": {"r": {"by": "cost", "models": ["a/m", "a/n"]}}},
        r"routes\.r\.models\[1\]: no provider here serves a/n",
    ),
    "an unknown route": ({"routes": {"r": {"by": "cost", "models": ["route/s"]}}}, r"models\[0\]: there is no route s"),
    "itself": ({"routes": {"r": {"by": "cost", "models": ["route/r"]}}}, r"models\[0\]: leads back to itself: r -> r"),
    "a cycle": (
        {
            "routes": {
                "r": {"by": "cost", "models": ["a/m", "route/s"]},
                "s": {"by": "cost", "models": ["route/r"]},
            }
        },
        r"routes\.s\.models\[0\]: leads back to itself: r -> s -> r",
    ),
    "a name with spaces": ({"routes": {"a b": {"by": "cost", "models": ["a/m"]}}}, "'a b' must be 1 to 64"),
    "tasks by cost": (
        {"routes": {"r": {"by": "cost", "models": [{"model": "a/m", "tasks": ["x"]}]}}},
        r"models\[0\]: tasks: go with a route by task",
    ),
    "a task with spaces": (
        {"routes": {"r": {"by": "task", "models": [{"model": "a/m", "tasks": ["x y"]}]}}},
        r"models\[0\]: tasks: 'x y'",
    ),
}


@pytest.mark.parametrize(("written", "told"), WRONG.values(), ids=WRONG)
def test_a_mistake_in_the_file_is_named_with_its_place(written, told):
    """At the start, and not when somebody asks."""
    data = written if isinstance(written, str) else json.dumps(written)
    with pytest.raises(Invalid, match=told) as refusal:
        read_routes("routes.json", data.encode(), Providers([Member("a")]))
    assert refusal.value.detail.startswith("routes_file: routes.json")


async def test_an_engine_does_not_start_with_a_mistake(path):
    """Nor without the file that its settings name."""
    with pytest.raises(Invalid, match="is empty"):
        async with routing(path, r={"by": "cost", "models": []}):
            """Not reached."""
    with pytest.raises(Invalid, match=r"gone\.json cannot be read: FileNotFoundError"):
        async with chatting(path, routes_file=str(path.with_name("gone.json"))):
            """Not reached."""


def test_a_route_in_a_route_stands_for_its_models():
    """With the tasks that it has there."""
    written = {
        "r": {"by": "task", "models": ["a/m", {"model": "route/s", "tasks": ["law"]}]},
        "s": {"by": "cost", "models": ["b/m", "c/m"]},
    }
    providers = Providers(map(Member, "abc"))
    route, _ = read_routes("f", json.dumps({"routes": written}).encode(), providers)
    assert [(each.model, each.tasks) for each in route.models] == [("a/m", ()), ("b/m", ("law",)), ("c/m", ("law",))]
    assert [place for place, _ in route.order(Asked("law"), [None] * 3)] == [1, 2, 0]


def test_the_same_providers_can_be_opened_again(tmp_path):
    """Their routes are there already."""
    from_file = tmp_path / "routes.json"
    from_file.write_text(json.dumps({"routes": {"r": {"by": "cost", "models": ["a/m"]}}}))
    providers = Providers([Member("a")])
    for _ in range(2):
        add_routes(providers, engine.Settings(routes_file=str(from_file)), SystemClock())
    assert providers.available().count("route/r") == 1


# --- endpoints --------------------------------------------------------------------------------------------------------


def chat_endpoint(up, **more):
    return {"api": "chat", "base_url": f"{up.address}/v1", **more}


async def test_one_model_at_several_endpoints(tmp_path):
    """Each is a provider of its own, with its own key and its own breaker; a key in an answer is cut out."""
    (tmp_path / "there.key").write_text(f"{KEY}\n")
    async with upstream(CHAT) as here, upstream(CHAT, CHAT.answer(f"My key is {KEY}.")) as there:
        written = {
            "endpoints": {"here": chat_endpoint(here), "there": chat_endpoint(there, api_key_file="there.key")},
            "routes": {"spread": {"by": "balance", "models": ["here/llama-3", "there/llama-3"]}},
        }
        file = tmp_path / "routes.json"
        file.write_text(json.dumps(written))
        settings = engine.Settings(database=str(tmp_path / "chat.db"), routes_file=str(file), max_attempts=1)
        async with engine.open(settings) as chat:
            session = (await chat.create_session(model="route/spread")).id
            turns = [await chat.say(session, "Hi.", seed=7) for _ in range(4)]
            choices = await chosen(chat, session)
            prompt = await chat.explain(turns[1].id)
    assert [turn.status for turn in turns] == ["completed"] * 4
    assert choices == [("here", 0, "next"), ("there", 1, "next")] * 2
    assert prompt.model == "there/llama-3"
    assert KEY not in engine.text_of(turns[1].message.blocks())
    assert [f"bearer {KEY}".lower().encode() in each.head.lower() for each in here.requests + there.requests] == [
        *[False] * 2,
        *[True] * 2,
    ]
    assert all(each.json()["seed"] == 7 for each in here.requests + there.requests)


BAD_ENDPOINTS = {
    "of no protocol": ({"x": {"api": "smtp", "base_url": "http://a.test"}}, "api|endpoints"),
    "at no address": ({"x": {"api": "chat", "base_url": "a.test"}}, r"endpoints\.x: .*base_url"),
    "named as a provider": (
        {"echo": {"api": "chat", "base_url": "http://a.test"}},
        r"endpoints\.echo: there is another",
    ),
    "named as the routes": (
        {"route": {"api": "chat", "base_url": "http://a.test"}},
        r"endpoints\.route: there is another",
    ),
    "without a name": ({"a/b": {"api": "chat", "base_url": "http://a.test"}}, r"endpoints\.a/b: its name must be"),
    "without its key": (
        {"x": {"api": "messages", "base_url": "http://a.test", "api_key_file": "gone.key"}},
        r"endpoints\.x\.api_key_file: cannot be read",
    ),
}


@pytest.mark.parametrize(("endpoints", "told"), BAD_ENDPOINTS.values(), ids=BAD_ENDPOINTS)
async def test_a_mistake_in_an_endpoint_is_named_with_its_place(tmp_path, endpoints, told):
    """At the start, too."""
    file = tmp_path / "routes.json"
    file.write_text(json.dumps({"endpoints": endpoints}))
    settings = engine.Settings(database=str(tmp_path / "chat.db"), routes_file=str(file))
    with pytest.raises(Invalid, match=told):
        async with engine.open(settings):
            """Not reached."""


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
async def test_an_endpoint_speaks_each_protocol(tmp_path, api):
    """OpenAI's two, and Anthropic's."""
    wire = {"chat": CHAT, "responses": RESPONSES, "messages": CLAUDE}[api]
    async with upstream(wire, wire.answer("Fine.")) as up:
        base_url = up.address if api == "messages" else f"{up.address}/v1"
        file = tmp_path / "routes.json"
        file.write_text(json.dumps({"endpoints": {"mine": {"api": api, "base_url": base_url}}}))
        settings = engine.Settings(database=str(tmp_path / "chat.db"), routes_file=str(file))
        async with engine.open(settings) as chat:
            turn = await chat.say((await chat.create_session(model="mine/x")).id, "Hi.")
    assert (turn.status, turn.model) == ("completed", "mine/x")
