"""Whatever is said, tried again, cut short, pinned and erased: each request that is derived from the record is, to the
byte, the one that a provider was sent, and the figures of its window add up.

Every renderer has providers of its own, which keep what they are sent. What happens is made by chance, from the number
of the conversation: a conversation that fails here is found again under its number.
"""

import asyncio
import json
import os
import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manent import engine
from manent.engine.context.derive import look_back
from manent.engine.context.window import POLICY
from manent.engine.errors import BudgetTooSmall, Conflict, Erased, ProviderUnavailable, Refused, TurnNotFound
from manent.engine.events.turn_types import AttemptStarted
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended, ModelInfo, VendorBlock
from manent.engine.providers.renderers import RENDERERS
from manent.engine.providers.tokens import FAMILIES
from manent.engine.sessions.messages import PastRow
from tests.properties.test_window_properties import MEASURES, Setting, histories
from tests.support import assert_adds_up, chatting, offered

MANY = int(os.environ.get("EXPLAINED_CONVERSATIONS", "2000"))
AT_ONCE = 40
STEPS = 12
WORDS = ("sea", "Grüße, 世界 🌍", "x" * 40, '\u2028 \\ "quoted"', "a\nb\r\n", " ", "1234 - 5678", "</system-message>")
IMAGES = (
    b'{"type":"image","source":{"type":"url","url":"https://example.org/a.png"}}',
    b'{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}',
)
CLAUDES = b'{"type":"thinking","thinking":"Hm.","signature":"c2ln"}'
OPENAIS = b'{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"c2ln"}'
OTHER = b'{"type":"redacted_thinking","data":"c2ln"}'
OURS = offered("mine")
PARAMETERS = {
    "top_p": (0.1 + 0.2, 1.0),
    "top_k": (1, 40),
    "seed": (0, -(2**63), 2**63 - 1),
    "presence_penalty": (-0.7, 2),
    "frequency_penalty": (1e-07, 0),
    "logit_bias": ({}, {"9": -100, "15": 0.1}),
    "response_format": (
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "schema": {"type": "object", "maximum": 1e300, "title": "Grüße \u2028"}},
        {"type": "json_schema", "name": "x", "schema": {"a": 1.0}, "strict": True, "description": "An x."},
    ),
    "reasoning": ({"effort": "none"}, {"effort": "high"}, {"budget_tokens": 8}, {"budget_tokens": 4000}),
    "parallel_tool_calls": (True, False),
}
"""Some of each; what a renderer cannot say is refused, and then nothing is sent."""


@engine.tool
async def looks(place: str) -> str:
    """Looks at a place."""
    return f"{place}: {WORDS[len(place) % len(WORDS)]}"


class Recording:
    """Answers by chance, and keeps what it is sent by the name of the model, which is the conversation's."""

    def __init__(self, renderer, sent):
        self.name = renderer.replace("/", "-")
        self.renderer = renderer
        self.renderers = {renderer: RENDERERS[renderer]}
        self.sent = sent

    def models(self):
        return []

    def model(self, name):
        if not name.startswith("m"):
            return None  # what stands for a name that is erased
        number = int(name[1:])
        family = sorted(FAMILIES)[number % len(FAMILIES)]
        return ModelInfo(name, family, context_tokens=4000 if number % 3 else None, listed=number % 2 == 0)

    async def stream(self, request):
        model = json.loads(request)["model"]
        self.sent.setdefault(model, []).append(request)
        chance = random.Random(f"{model} {len(self.sent[model])}")
        if chance.random() < 0.15:
            raise ProviderUnavailable("busy", retry_after_s=0.001)
        for chunk in answer(chance):
            yield chunk
        if chance.random() < 0.1:
            raise ProviderUnavailable("broke off")
        yield Ended(chance.choice(("end_turn", "end_turn", "tool_use", "max_tokens", "stop_sequence", "pause_turn")))

    async def aclose(self):
        """There is nothing to release."""


def answer(chance):
    for block in range(chance.randint(1, 3)):
        kind = chance.choice(("text", "text", "thinking", "tool", "other"))
        if kind == "other":
            yield VendorBlock(block, "redacted_thinking", OTHER)
            continue
        if kind == "tool":
            name = chance.choice(("looks", "mine", "unheard_of"))
            yield BlockStarted(block, "tool_use", f"call_{chance.randrange(10**9)}", name)
            yield Delta(block, chance.choice(('{"place":"Rome"}', '{"place": "a"}', "{broken", "{}")))
        else:
            yield BlockStarted(block, kind)
            yield Delta(block, chance.choice(WORDS))
            if kind == "thinking":
                raw = chance.choice((CLAUDES, OPENAIS))
                yield VendorBlock(block, json.loads(raw)["type"], raw)
        yield BlockStopped(block)


class Conversation:
    """What happens to one session."""

    def __init__(self, chat, number):
        self.chat = chat
        self.chance = random.Random(number)
        self.model = f"m{number}"
        self.session = None
        self.wanted = []

    def full_name(self):
        return f"{self.chance.choice(list(RENDERERS)).replace('/', '-')}/{self.model}"

    def text(self):
        return " ".join(self.chance.choices(WORDS, k=self.chance.randint(1, 3))) + "."

    async def live(self):
        chance, budget = self.chance, self.chance.choice((None, 120, 300, 2000))
        system = chance.choice((None, "Be brief.", "Grüße \u2028"))
        created = await self.chat.create_session(
            model=self.full_name(), fallback_model=self.full_name(), system=system, budget_tokens=budget
        )
        self.session = created.id
        for _ in range(chance.randint(3, STEPS)):
            kind = chance.choice(("say", "say", "say", "append", "set", "pin", "answer", "go on", "erase"))
            try:
                await getattr(self, kind.replace(" ", "_"))()
            except (Refused, Conflict, Erased):
                continue  # as it should be, in that state

    async def say(self):
        chance, content = self.chance, self.text()
        if chance.random() < 0.2:
            content = engine.MessageIn((chance.choice(IMAGES), b'{"type":"text","text":"And this?"}'))
        options = {"temperature": chance.choice((None, 0.0, 0.7)), "max_output_tokens": chance.choice((None, 9, 30))}
        if chance.random() < 0.3:
            options["stop"] = ("END", "\n\n")
        if chance.random() < 0.6:
            options |= {name: chance.choice(PARAMETERS[name]) for name in chance.choices(list(PARAMETERS), k=2)}
        if chance.random() < 0.5:
            options |= {"client_tools": OURS, "tools": ["looks"], "tool_choice": chance.choice((None, "any", "mine"))}
        if chance.random() < 0.2:
            options["model"] = self.full_name()
        turn = await self.chat.say(self.session, content, **options)
        self.wanted = (
            []
            if turn.message is None
            else [block.id for block in turn.message.blocks() if isinstance(block, engine.ToolUseBlock)]
        )

    async def go_on(self):
        started = await self.chat.start_turn(self.session, continues=self.chance.random() < 0.5)
        await self.chat.ended(started.turn)

    async def answer(self):
        for call in self.wanted:
            result = {
                "type": "tool_result",
                "tool_use_id": call,
                "content": self.text(),
                "is_error": len(call) % 2 == 0,
            }
            block = json.dumps(result).encode()
            await self.chat.append_messages(self.session, [engine.MessageIn((block,), "tool")])
        await self.go_on()

    async def append(self):
        roles = self.chance.choices(("user", "assistant", "system"), k=self.chance.randint(1, 12))
        await self.chat.append_messages(self.session, [engine.MessageIn(self.text(), role) for role in roles])

    async def set(self):
        fields = {
            "system": self.chance.choice((None, "", self.text())),
            "max_output_tokens": self.chance.choice((None, 12)),
        }
        await self.chat.update_session(self.session, **fields)

    async def pin(self):
        page = (await self.chat.messages(self.session, limit=1000)).items
        if page:
            await self.chance.choice((self.chat.pin, self.chat.pin, self.chat.unpin))(
                self.session, self.chance.choice(page).version
            )

    async def erase(self):
        version = (await self.chat.session(self.session)).version
        if self.chance.random() < 0.4:
            await self.chat.erase(self.session, "by chance", versions=[self.chance.randint(1, version)])

    async def explained(self, turn, attempt):
        """An attempt explained; None: words that it was sent are erased."""
        try:
            return await self.chat.explain(turn, attempt=attempt)
        except Erased as gone:
            if not gone.extra["positions"]:
                raise
            return None

    async def check(self, sent, seen):
        """Each attempt, against what was sent: what is erased is named, all else is the same."""
        requests = iter(sent)
        async for turn in self.chat.iter_turns(self.session):
            for number in range(1, len(turn.attempts) + 1):
                request = next(requests)
                prompt = await self.explained(turn.id, number)
                if prompt is None:
                    seen["erased"] += 1
                    continue
                assert prompt.request_bytes == request, (self.model, turn.id, number)
                assert prompt.matches
                assert_adds_up(prompt)
                seen["derived"] += 1
                seen.update({each.reason for each in (*prompt.window.included, *prompt.window.omitted.items)})
                seen[prompt.renderer] += 1
                given = msgspec.structs.asdict(prompt.parameters)
                seen.update(name for name in PARAMETERS if given[name] is not None)
            with pytest.raises(TurnNotFound):
                await self.chat.explain(turn.id, attempt=len(turn.attempts) + 1)
        assert next(requests, None) is None


async def converse(path, first, last):
    """Conversations of these numbers, and what was seen in them."""
    sent, seen = {}, Counter()
    members = [Recording(name, sent) for name in RENDERERS]
    limits = {"max_attempts": 2, "retry_base_ms": 1, "max_rounds": 4, "breaker_failures": 10**6}
    limits = {name: value for name, value in limits.items() if name in engine.Settings.__struct_fields__}
    async with chatting(path, providers=members, tools=(looks,), **limits) as chat:
        all_of_them = [Conversation(chat, number) for number in range(first, last)]
        for start in range(0, len(all_of_them), AT_ONCE):
            some = all_of_them[start : start + AT_ONCE]
            await asyncio.gather(*(each.live() for each in some))
            for each in some:
                await each.check(sent.get(each.model, []), seen)
    async with chatting(path) as chat:  # without the providers: their renderers are known by name
        for each in all_of_them[:: max(1, len(all_of_them) // 40)]:
            each.chat = chat
            await each.check(sent.get(each.model, []), Counter())
    return seen


def check_variety(seen):
    """Nothing that matters was left out by chance."""
    kinds = ("system", "pinned", "last_user", "last_unit", "newest_that_fits", "budget", "superseded", "incomplete")
    assert {*kinds, "erased", *RENDERERS, *PARAMETERS} <= seen.keys()


async def test_what_is_derived_is_what_was_sent(tmp_path):
    """For some conversations."""
    check_variety(await converse(tmp_path / "chat.db", 0, 80))


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_what_is_derived_is_what_was_sent_in_many_conversations(tmp_path, tell):
    """For thousands of them."""
    seen = await converse(tmp_path / "chat.db", 0, MANY)
    check_variety(seen)
    tell(f"{MANY} conversations, {seen['derived']} requests derived, {seen['erased']} erased")


# --- reasons, against the choice itself -------------------------------------------------------------------------------


def past(row, superseded):
    """A message as it is read for a window of the past."""
    left_out = row.left_out or row.tokens == 0
    return PastRow(
        row.version, row.position, row.role, row.tokens, row.unit, row.pinned, left_out, left_out and superseded
    )


def expected(setting, rows, chosen, measure):
    """Version -> reason, as slowly and plainly as can be."""
    most = measure.available_tokens
    fits = [first for first in range(len(setting.units)) if setting.cost(setting.run(first), measure) <= most]
    stop = setting.units[fits[0] - 1][-1].version if fits and fits[0] else 0
    newest, found = setting.units[-1], {}
    out = {row.unit: row for row in rows if row.left_out}  # the newest of each unit
    pinned = {row.unit for row in rows if row.pinned}
    for row in rows:
        if row.version in chosen:
            is_last = setting.last_user is not None and row.version == setting.last_user.version
            of_last_unit = "last_unit" if row.unit == newest[0].unit else "newest_that_fits"
            found[row.version] = "pinned" if row.unit in pinned else "last_user" if is_last else of_last_unit
        elif row.version <= stop:
            found[row.version] = "budget"
        elif row.unit in out:
            one = out[row.unit]
            found[row.version] = "superseded" if one.superseded else "erased" if one.tokens else "empty"
        else:
            found[row.version] = "incomplete"
    return found


@settings(max_examples=1000)
@given(histories(), MEASURES, st.booleans())
def test_reasons_are_those_of_the_choice(rows, measure, superseded):
    """For any history that a window was chosen from: each message has the reason that the choice had."""
    rows = [past(row, superseded and row.version % 2 == 0) for row in rows]
    setting = Setting(rows)
    try:
        chosen = setting.choose(measure)
    except BudgetTooSmall:
        return
    if not chosen.rows:
        return
    facts = AttemptStarted(
        turn=engine.new_id(),
        round=1,
        attempt=1,
        provider="p",
        model="m",
        renderer="r/1",
        request="",
        counter="c",
        positions=tuple(row.position for row in chosen.rows),
        factor_permille=measure.factor_permille,
        overhead=measure.overhead,
        base_tokens=chosen.base_tokens,
        budget_tokens=measure.budget_tokens,
        reserve_tokens=measure.reserve_tokens,
        policy=POLICY,
        system=1 if measure.fixed_messages else None,
    )
    users = [row.position for row in chosen.rows if row.role == "user"]
    found = look_back(facts, max(users, default=None), iter(rows[::-1]))
    by_position = found.included | {row.position: reason for row, reason in found.omitted}
    versions = {row.version for row in chosen.rows}
    assert {row.version: by_position[row.position] for row in rows} == expected(setting, rows, versions, measure)
