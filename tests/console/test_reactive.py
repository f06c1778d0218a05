"""The console's reactive core, by itself, in a browser: signals, effects, scopes, elements and keyed lists."""

from functools import partial

import pytest


@pytest.fixture
def run(lab):
    """Runs an async function body with the core as ``m``."""
    return partial(lab, "core/reactive.js")


def test_an_effect_runs_again_when_what_it_read_changes(run):
    """And for nothing else: not for the same value, and not for what it read no more."""
    seen = run("""
        const [a, b, which, seen] = [m.signal(1), m.signal(2), m.signal("a"), []];
        m.effect(() => seen.push(which.value === "a" ? a.value : b.value));
        a.value = 10; a.value = 10; b.value = 20; which.value = "b"; a.value = 11; b.value = 21;
        return seen;""")
    assert seen == [1, 10, 20, 21]


def test_a_batch_runs_each_effect_once(run):
    """However many of the signals that it reads are changed in it."""
    seen = run("""
        const [a, b, seen] = [m.signal(1), m.signal(2), []];
        m.effect(() => seen.push(a.value + b.value));
        m.batch(() => { a.value = 5; b.value = 6; a.value = 7; });
        return seen;""")
    assert seen == [3, 13]


def test_what_is_read_untracked_runs_nothing(run):
    """Nor does a peek."""
    seen = run("""
        const [a, b, seen] = [m.signal(1), m.signal(1), []];
        m.effect(() => seen.push(m.untracked(() => a.value) + b.peek()));
        a.value = 2; b.value = 2;
        return seen;""")
    assert seen == [2]


def test_effects_end_with_their_scope(run):
    """Those inside an effect end before it runs again; what was promised for the end is done, innermost first."""
    seen = run("""
        const [a, b, seen] = [m.signal(1), m.signal(1), []];
        const [, end] = m.inScope(() => {
          m.onEnd(() => seen.push("outer"));
          m.effect(() => {
            const mine = a.value;
            m.onEnd(() => seen.push("inner " + mine));
            m.effect(() => seen.push(mine + "/" + b.value));
          });
        });
        a.value = 2; b.value = 2; end(); a.value = 3; b.value = 3;
        return seen;""")
    assert seen == ["1/1", "inner 1", "2/1", "2/2", "inner 2", "outer"]


def test_one_that_fails_does_not_keep_the_others_from_running(run):
    """And its error is not lost."""
    seen = run("""
        const [a, seen] = [m.signal(1), []];
        m.effect(() => { if (a.value > 1) throw new Error("no"); });
        m.effect(() => seen.push(a.value));
        try { a.value = 2; } catch (error) { seen.push(error.message); }
        a.value = 1;
        return seen;""")
    assert seen == [1, 2, "no", 1]


def test_effects_that_chase_each_other_are_stopped(run):
    """With an error, where a page would hang."""
    assert "without an end" in run("""
        const a = m.signal(1);
        m.effect(() => a.value);
        try { m.effect(() => { const n = a.value; queueMicrotask; if (n > 1) a.value = n + 1; }); a.value = 2; }
        catch (error) { return error.message; }""")


def test_an_element_is_what_its_function_was_told(run):
    """Tag, classes, attributes, properties, children of every kind; text stays text."""
    html = run("""
        const on = m.signal(false);
        const node = m.h("p.a.b", { title: "<i>", hidden: false, "data-x": null, class: () => on.value ? "on" : "" },
          "<b>&", [1, null, [m.h("i", "x")]], false, undefined, () => on.value && m.h("em", "y"));
        const before = node.outerHTML;
        on.value = true;
        return [before, node.outerHTML];""")
    assert html == [
        '<p class="a b" title="&lt;i&gt;">&lt;b&gt;&amp;1<i>x</i></p>',
        '<p class="a b on" title="&lt;i&gt;">&lt;b&gt;&amp;1<i>x</i><em>y</em></p>',
    ]


def test_drawings_are_drawn(run):
    """Elements of SVG stand in its own namespace."""
    assert run('return m.h("svg", m.h("rect", { x: 1 })).firstChild.namespaceURI;') == "http://www.w3.org/2000/svg"


def test_live_text_keeps_its_node(run):
    """What only grows is not made anew: a reader's selection stays, and the browser has less to do."""
    assert run("""
        const text = m.signal("one");
        const node = m.h("p", () => text.value);
        const before = node.childNodes[1];
        text.value = "two";
        return [node.childNodes[1] === before, node.textContent];""") == [True, "two"]


def test_live_children_replace_each_other(run):
    """Also where they hold live children, which have changed meanwhile."""
    assert run("""
        const [outer, inner] = [m.signal(1), m.signal("a")];
        const node = m.h("p", "[", () => [`${outer.value}:`, () => [m.h("i", inner.value), m.h("u", "!")]], "]");
        const seen = [node.textContent];
        inner.value = "b"; seen.push(node.textContent);
        outer.value = 2; seen.push(node.textContent);
        inner.value = "c"; seen.push(node.textContent);
        return seen;""") == ["[1:a!]", "[1:b!]", "[2:b!]", "[2:c!]"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("style", "color: red"),
        ("innerHTML", "<b>x</b>"),
        ("srcdoc", "x"),
        ("href", "javascript:alert(1)"),
        ("href", "//elsewhere.example"),
        ("href", " javascript:alert(1)"),
        ("href", "data:text/html,x"),
        ("src", "http://elsewhere.example/x.png"),
        ("src", "data:image/png;base64,AAAA"),
    ],
)
def test_what_could_run_or_load_is_refused(run, key, value):
    """No style attribute, no markup from text, no address but of pages, mail and blobs: neither at first nor later."""
    assert run(
        """
        const refused = [];
        const later = m.signal(null);
        const live = () => { m.h("a", { [a0]: () => later.value }); later.value = a1; };
        for (const work of [() => m.h("a", { [a0]: a1 }), live])
          try { work(); refused.push(false); } catch { refused.push(true); }
        return refused;""",
        key,
        value,
    ) == [True, True]


def test_handlers_are_functions(run):
    """What stands in an attribute as text never becomes one; what a handler changes is one batch."""
    assert run("""
        const [a, b, seen] = [m.signal(1), m.signal(1), []];
        m.effect(() => seen.push(a.value + b.value));
        const button = m.h("button", { onclick: () => { a.value = 2; b.value = 2; } });
        button.click();
        return [seen, button.getAttributeNames()];""") == [[2, 4], []]


def test_a_keyed_list_keeps_its_nodes(run):
    """What stays is moved and not made again; its item is told; what goes ends; order is kept."""
    assert run("""
        const items = m.signal([{ k: 1, t: "a" }, { k: 2, t: "b" }, { k: 3, t: "c" }]);
        const ends = [];
        const list = m.each(m.h("ul"), () => items.value, (item) => item.k, (item, key) => {
          m.onEnd(() => ends.push(key));
          return m.h("li", () => item.value.t);
        });
        const before = [...list.children];
        items.value = [{ k: 3, t: "C" }, { k: 4, t: "d" }, { k: 1, t: "a" }];
        const after = [...list.children];
        return [list.textContent, after[0] === before[2], after[2] === before[0], ends];""") == [
        "Cda",
        True,
        True,
        [2],
    ]


def test_a_list_of_any_order_becomes_any_other(run):
    """By 300 random lists, each the next one's past."""
    assert (
        run("""
        let seed = 7;
        const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
        const items = m.signal([]);
        const list = m.each(m.h("ul"), () => items.value, (item) => item, (item, key) => m.h("li", key));
        for (let round = 0; round < 300; round++) {
          const wanted = [...new Set(Array.from({ length: random(12) }, () => random(16)))];
          items.value = wanted;
          if (list.textContent !== wanted.join("")) return [round, wanted, list.textContent];
        }
        return "good";""")
        == "good"
    )


def test_nothing_is_left_of_a_list_that_ended(run):
    """Its items' effects run no more."""
    assert run("""
        const [items, tick, seen] = [m.signal([1, 2]), m.signal(0), []];
        const [, end] = m.inScope(() => m.each(m.h("ul"), () => items.value, (i) => i, (item, key) => {
          m.effect(() => seen.push(key + ":" + tick.value));
          return m.h("li");
        }));
        end();
        tick.value = 1; items.value = [3];
        return seen;""") == ["1:0", "2:0"]
