"""The family of a conversation: as a tree, in lists of sessions, and the siblings of messages."""

from itertools import product

import msgspec
import pytest
from sqlalchemy.dialects.sqlite import dialect

from manent import engine
from manent.engine.errors import Invalid, NotYet, SessionNotFound
from manent.engine.log.base import RequestKey
from manent.engine.log.sql.driver import compiled
from manent.engine.sessions.listing import KINDS, ORDERS, Which, _listing_of_families, _newest_fork
from tests.families import replayed
from tests.support import ManualClock, chatting, query, says

ECHO = "echo/echo"
SQLITE = dialect()
EVERY = {"branches": "all", "kind": "any"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


@pytest.fixture
def clock():
    return ManualClock()


async def say(chat, session, *words):
    for each in words:
        await chat.append_message(session, each)


async def talked(chat, *words, **fields):
    session = await chat.create_session(model=ECHO, **fields)
    await say(chat, session.id, *words)
    return session.id


async def forked(chat, session, version=None, *words, **fields):
    fork = await chat.fork(session, version=version, **fields)
    await say(chat, fork.id, *words)
    return fork.id


async def listed(chat, **which):
    """The ids of a list, and the same through pages of one."""
    found = [session.id async for session in chat.iter_sessions(**which)]
    page, singly = await chat.sessions(limit=1, **which), []
    while True:
        singly += [session.id for session in page.items]
        if page.next is None:
            break
        page = await chat.sessions(limit=1, after=page.next, **which)
    assert singly == found
    assert len({*found}) == len(found)
    return found


# --- the tree ---------------------------------------------------------------------------------------------------------


async def test_a_family_is_shown_as_a_tree(path):
    """With where each begins, what it is called and begins with, and how far it is; asked for with any member."""
    async with chatting(path) as chat:
        root = await talked(chat, "one", "two", "three", title="A talk")
        edited = await forked(chat, root, 2, "deux")
        deeper = await forked(chat, edited, None, "drei", title="Mine")
        bare = await forked(chat, edited, 3)
        replay = await replayed(chat, root, 4)
        trees = [await chat.branches(each) for each in (root, edited, deeper, bare, replay)]
        assert all(tree == trees[0] for tree in trees)
        tree = trees[0]
        assert tree.root == root
        assert [
            (node.session_id, node.parent and (node.parent.session_id, node.parent.version), node.preview, node.kind)
            for node in tree.nodes
        ] == [
            (root, None, "one", "conversation"),
            (edited, (root, 2), "deux", "conversation"),
            (deeper, (edited, 4), "drei", "conversation"),
            (bare, (edited, 3), "one", "conversation"),
            (replay, (root, 4), "one", "replay"),
        ]
        assert [node.title for node in tree.nodes] == ["A talk", "A talk", "Mine", "A talk", "A talk"]
        for node in tree.nodes:
            now = await chat.session(node.session_id)
            assert (node.version, node.message_count, node.updated_at) == (
                now.version,
                now.message_count,
                now.updated_at,
            )
            assert now.family == engine.Family(root, 4)


async def test_a_session_that_nobody_forked_is_alone(path):
    """A family of one, without a name for it in the session."""
    async with chatting(path) as chat:
        session = await talked(chat, "one")
        (node,) = (await chat.branches(str(session))).nodes
        assert (node.session_id, node.parent, node.version, node.preview) == (session, None, 2, "one")
        assert (await chat.session(session)).family is None
        assert [each.family for each in (await chat.sessions()).items] == [None]


async def test_a_family_at_a_time(path, clock):
    """Those that had begun by then, each as it was; a session that had not is not yet there."""
    async with chatting(path, clock=clock) as chat:
        seen = []

        async def tick(session):
            seen.append((clock.time_us, session, await chat.branches(session), await chat.session(session)))
            clock.time_us += 1_000_000

        root = await talked(chat, "one", "two", title="old")
        await tick(root)
        fork = await forked(chat, root, 2)
        await tick(fork)
        await say(chat, fork, "mine")
        await tick(fork)
        await chat.update_session(root, title="new")
        await tick(root)
        await forked(chat, fork, 3, "deeper")
        await tick(root)
        for time_us, session, then, view in seen:
            assert await chat.branches(session, at=engine.rfc3339(time_us)) == then
            assert await chat.session(session, at=engine.rfc3339(time_us)) == view
        assert [len(then.nodes) for _, _, then, _ in seen] == [1, 2, 2, 2, 3]
        assert [view.family and view.family.size for *_, view in seen] == [None, 2, 2, 2, 3]
        with pytest.raises(NotYet):
            await chat.branches(fork, at=engine.rfc3339(seen[0][0]))
        with pytest.raises(Invalid):
            await chat.branches(fork, at="yesterday")
        with pytest.raises(SessionNotFound):
            await chat.branches(engine.new_id())


async def test_what_is_erased_or_archived_is_still_a_member(path):
    """Its words are gone, and it stands where it stood; another tenant knows nothing of it."""
    async with chatting(path) as chat:
        root = await talked(chat, "one", title="t")
        fork = await forked(chat, root, 1, "secret")
        await chat.erase(fork, "asked to")
        await chat.update_session(fork, status="archived")
        nodes = (await chat.branches(root)).nodes
        assert [(node.session_id, node.preview) for node in nodes] == [(root, "one"), (fork, None)]
        assert (await chat.session(root)).family.size == 2
        with pytest.raises(SessionNotFound):
            await chat.branches(root, caller=engine.Caller("acme"))


async def test_a_request_done_again_tells_the_same_family(path):
    """The answer to a fork, a change and a patch is the first one, also when the family has grown since."""
    async with chatting(path) as chat:
        root = await talked(chat, "one")

        async def ask():
            return [
                await chat.create_session(model=ECHO, request=RequestKey("local", "new", "k", b"b")),
                await chat.fork(root, request=RequestKey("local", "fork", "k", b"b")),
                await chat.update_session(root, title="x", request=RequestKey("local", "set", "k", b"b")),
                await chat.update_metadata(root, {"a": 1}, request=RequestKey("local", "patch", "k", b"b")),
            ]

        first = await ask()
        await forked(chat, root, 1)
        assert [each.family and each.family.size for each in first] == [None, 2, 2, 2]
        assert await ask() == first


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_lists_show_of_each_family_the_newest(path, clock):
    """By activity and by creation; all of them, or those that replays made, where that is asked for."""
    async with chatting(path, clock=clock) as chat:
        alone = await talked(chat, "x")
        root = await talked(chat, "one", "two")
        clock.time_us += 1
        first = await forked(chat, root, 2, "a")
        second = await forked(chat, first, 3, "b")
        replay = await replayed(chat, root, 2)
        assert await listed(chat) == [second, alone]
        assert await listed(chat, order="created") == [second, alone]
        clock.time_us += 1
        await say(chat, root, "three")
        assert await listed(chat) == [root, alone]
        assert await listed(chat, order="created") == [root, alone]
        assert await listed(chat, branches="all", order="created") == [second, first, root, alone]
        assert await listed(chat, kind="replay") == [replay]
        assert await listed(chat, kind="any", branches="all", order="created") == [replay, second, first, root, alone]
        families = {session.id: session.family async for session in chat.iter_sessions(**EVERY)}
        assert families == {alone: None} | dict.fromkeys((root, first, second, replay), engine.Family(root, 3))


async def test_only_members_that_match_stand_for_their_family(path):
    """A filter is asked of each member; the newest of those that are left is shown."""
    slow = says({"text": "x"}, {"fail": {"code": "provider_rejected", "detail": "no"}})
    async with chatting(path, slow=slow) as chat:
        root = await talked(chat, "one", title="apples", user_id="u-1")
        pears = await forked(chat, root, 2, title="pears", user_id="u-2")
        failed = await forked(chat, root, 2, title="plums", model="scripted/slow")
        await chat.say(failed, "go")
        old = await forked(chat, root, 2, title="old apples", user_id=None)
        await chat.update_session(old, status="archived")
        assert await listed(chat) == [old]
        assert await listed(chat, status="active") == [failed]
        assert await listed(chat, status="archived") == [old]
        assert await listed(chat, title_contains="apples") == [old]
        assert await listed(chat, title_contains="apples", status="active") == [root]
        assert await listed(chat, user_id="u-1") == [failed]
        assert await listed(chat, user_id="u-1", has_failed=False) == [root]
        assert await listed(chat, user_id="u-2") == [pears]
        assert await listed(chat, has_failed=True) == [failed]
        assert await listed(chat, model="scripted/slow", waiting=False) == [failed]
        assert await listed(chat, waiting=True) == []
        assert await listed(chat, user_id="u-1", kind="replay") == []
        for wrong in ({"branches": "some"}, {"kind": "both"}):
            with pytest.raises(Invalid):
                await chat.sessions(**wrong)


async def test_pages_hold_every_family_once(path, monkeypatch):
    """Of whatever size the families and the pages are, also where most rows are passed over."""
    monkeypatch.setattr("manent.engine.sessions.listing.PASSED_OVER", 0)
    monkeypatch.setattr("manent.engine.sessions.listing.MOST_AT_ONCE", 4)
    async with chatting(path) as chat:
        roots = [await talked(chat, str(number)) for number in range(5)]
        for number in range(24):
            await forked(chat, roots[number % 3], 2, *["x"] * (number % 2))
        await say(chat, roots[1], "the newest")
        for order in ("activity", "created"):
            for limit in (1, 2, 3, 100):
                page, found = await chat.sessions(order=order, limit=limit), []
                while True:
                    found += page.items
                    if page.next is None:
                        break
                    page = await chat.sessions(order=order, limit=limit, after=page.next)
                assert len(found) == 5
                assert {each.family.root if each.family else each.id for each in found} == {*roots}
                assert [each.family.size for each in found if each.family] == [9, 9, 9]
                times = [each.updated_at for each in found]
                assert order == "created" or times == sorted(times, reverse=True)


async def test_a_full_family_is_listed_in_time_that_its_size_bounds(path):
    """The index by root finds a family: nothing looks through every fork of the tenant."""
    async with chatting(path) as chat:
        root = await talked(chat, "one")
        await forked(chat, root, 2)
        await listed(chat)
    for which, kind in product([{}, {"user_id": "u"}, {"title_contains": "t", "status": "active"}], KINDS):
        asked = Which(**which).asked()
        for prepared in (
            _newest_fork(kind, asked),
            *(_listing_of_families(order, kind, asked, goes_on=True) for order in ORDERS),
        ):
            text = compiled(prepared._statement, SQLITE)
            plan = [step for *_, step in query(path, f"EXPLAIN QUERY PLAN {text}", [1] * text.count("?"))]
            assert any("forks_by_root" in step for step in plan), plan
            assert not any(step.startswith("SCAN") and step != "SCAN page" for step in plan), plan


# --- siblings ---------------------------------------------------------------------------------------------------------


async def siblings_of(chat, session, **then):
    """By the text of each message, the texts of its siblings."""
    texts = {
        message.id: message.text
        for node in (await chat.branches(session)).nodes
        async for message in chat.iter_messages(node.session_id)
    }
    page = await chat.messages(session, limit=1000, siblings=True, **then)
    return {message.text: [texts[each.id] for each in message.siblings] for message in page.items}


async def test_a_message_lists_those_that_stand_in_its_place(path):
    """What was said instead, wherever it was forked; not the message itself, and not one that is not yet there."""
    async with chatting(path) as chat:
        root = await talked(chat, "a", "b", "c")
        edited = await forked(chat, root, 2, "b2", "c2")
        again = await forked(chat, edited, 2, "b3")
        await forked(chat, root, 1, "a2")
        await forked(chat, root, 3)
        longer = await forked(chat, edited, 5, "d2")
        expected = {"a": ["a2"], "b": ["b2", "b3"], "c": []}
        assert await siblings_of(chat, root) == expected
        assert await siblings_of(chat, again) == {"a": ["a2"], "b3": ["b", "b2"]}
        assert await siblings_of(chat, longer) == {"a": ["a2"], "b2": ["b", "b3"], "c2": [], "d2": []}
        (message,) = (await chat.messages(root, after=2, limit=1, siblings=True)).items
        assert [(each.session_id, each.version) for each in message.siblings] == [(edited, 4), (again, 4)]
        assert (await chat.messages(root)).items[0].siblings is msgspec.UNSET
        assert b"siblings" not in msgspec.json.encode((await chat.messages(root)).items)
        await chat.say(again, "b4")
        assert await siblings_of(chat, root) == expected


async def test_siblings_of_the_past(path, clock):
    """Those that were there at that time, or when that version was recorded."""
    async with chatting(path, clock=clock) as chat:
        root = await talked(chat, "a", "b")
        began = clock.time_us
        clock.time_us += 1_000_000
        await forked(chat, root, 2, "b2")
        forked_at = clock.time_us
        clock.time_us += 1_000_000
        await say(chat, root, "c")
        await forked(chat, root, 2, "b3")
        assert (await siblings_of(chat, root))["b"] == ["b2", "b3"]
        assert (await siblings_of(chat, root, at=engine.rfc3339(began)))["b"] == []
        assert (await siblings_of(chat, root, at=engine.rfc3339(forked_at)))["b"] == ["b2"]
        assert (await siblings_of(chat, root, version=3))["b"] == []
        assert (await siblings_of(chat, root, version=4))["b"] == ["b2"]


async def test_what_a_replay_said_is_nobodys_sibling(path):
    """Until a conversation goes on from it. A reader of a replay sees what was said instead in conversations."""
    async with chatting(path) as chat:
        root = await talked(chat, "a", "b")
        replay = await replayed(chat, root, 2)
        await say(chat, replay, "r1", "r2")
        assert await siblings_of(chat, root) == {"a": [], "b": []}
        assert await siblings_of(chat, replay) == {"a": [], "r1": ["b"], "r2": []}
        await forked(chat, replay, 4, "instead of r2")
        assert await siblings_of(chat, root) == {"a": [], "b": ["r1"]}
        assert await siblings_of(chat, replay) == {"a": [], "r1": ["b"], "r2": ["instead of r2"]}
