"""Whatever is said and forked in a family: lists, trees and siblings are what a reading of every session finds."""

import asyncio
import tempfile
from collections import defaultdict
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from manent import engine
from tests.families import replayed
from tests.support import assert_rebuilds, chatting

NUMBER = st.integers(0, 1 << 16)
STEP = st.tuples(st.sampled_from(["say", "say", "fork", "fork", "replay"]), NUMBER, NUMBER)


async def grow(chat, steps):
    """A family: each step says something in some member, or forks one at some version, shared ones among them."""
    members = [(await chat.create_session(model="echo/echo")).id]
    for number, (kind, which, where) in enumerate(steps):
        member = members[which % len(members)]
        if kind == "say":
            await chat.append_message(member, str(number))
            continue
        version = 1 + where % (await chat.session(member)).version
        fork = (
            (await chat.fork(member, version=version)).id if kind == "fork" else await replayed(chat, member, version)
        )
        members.append(fork)
    return members


async def read_all(chat, tree):
    """The messages of each member, and what follows each position in conversations (0: nothing is before it)."""
    said, following = {}, defaultdict(set)
    for node in tree.nodes:
        said[node.session_id] = [message async for message in chat.iter_messages(node.session_id)]
        before = 0
        for message in said[node.session_id] if node.kind == "conversation" else ():
            following[before].add((message.position, message.session_id, message.id, message.version))
            before = message.position
    return said, following


async def check_siblings(chat, tree, limit):
    said, following = await read_all(chat, tree)
    for session, messages in said.items():
        expected, before = [], 0
        for message in messages:
            others = sorted(each for each in following[before] if each[0] != message.position)
            expected.append([engine.Sibling(where, known, version, at) for at, where, known, version in others])
            before = message.position
        for descending in (False, True):
            found, page = [], await chat.messages(session, limit=limit, siblings=True, descending=descending)
            while True:
                found += [[*message.siblings] for message in page.items]
                if page.next is None:
                    break
                page = await chat.messages(session, limit=limit, siblings=True, descending=descending, after=page.next)
            assert found == (expected[::-1] if descending else expected)


async def check_tree(chat, tree, members):
    assert [node.session_id for node in tree.nodes] == members
    conversations = sum(node.kind == "conversation" for node in tree.nodes)
    family = engine.Family(members[0], conversations) if len(members) > 1 else None
    for node in tree.nodes:
        now = await chat.session(node.session_id)
        assert (node.parent, node.version, node.message_count) == (now.parent, now.version, now.message_count)
        assert now.family == family
        shared = 0 if node.parent is None else node.parent.version
        own = [message.text async for message in chat.iter_messages(node.session_id, after=shared)]
        assert node.preview == (own[0] if own else now.preview)


async def check_lists(chat, tree):
    nodes = {
        kind: [node for node in tree.nodes if kind in {node.kind, "any"}] for kind in ("conversation", "replay", "any")
    }
    for kind, some in nodes.items():
        newest = sorted(some, key=lambda node: (node.updated_at, node.session_id), reverse=True)
        shown = [each.id async for each in chat.iter_sessions(kind=kind, branches="all")]
        assert shown == [node.session_id for node in newest]
        for order in ("activity", "created"):
            shown = [each.id async for each in chat.iter_sessions(kind=kind, order=order)]
            assert shown == [node.session_id for node in newest[:1]]


async def live(steps, limit, folder):
    path = folder / "chat.db"
    async with chatting(path) as chat:
        members = await grow(chat, steps)
        tree = await chat.branches(members[-1])
        await check_tree(chat, tree, members)
        await check_lists(chat, tree)
        await check_siblings(chat, tree, limit)
    assert_rebuilds(path, folder / "scratch.db")


@settings(max_examples=60)
@given(st.lists(STEP, max_size=24), st.integers(1, 4))
def test_a_family_is_what_its_sessions_hold(steps, limit):
    """For any order of saying and forking, forks of forks at versions that they share, and forks of what replays made:
    the tree, the lists, and on pages of any size and order the siblings of every message.
    """
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(steps, limit, Path(folder)))
