"""The console's Markdown, held against markdown-it-py: the same tree, however a text comes in.

``TEXTS=10000 pytest tests/console/test_markdown.py`` (``scripts/compare_markdown``) asks about more texts.
"""

import json
import os

import pytest

from tests.console.harness import pretty
from tests.console.oracle import expected, texts

COUNT = int(os.environ.get("TEXTS", "1000"))
AT_ONCE = 250

TREE = r"""
const text = (nodes) => nodes.map((n) => n.text ?? (n.children ? text(n.children) : " ")).join("");
const inline = (nodes) => nodes.map((n) => {
  if (n.type === "text") return n.text;
  if (n.type === "link") return ["a", n.href, n.title, inline(n.children)];
  if (n.type === "image") return ["img", n.href, n.title, text(n.children)];
  if (n.children) return [n.type, inline(n.children)];
  return n.type === "code" ? ["code", n.text] : [n.type];
});
const tree = (nodes, tight) => nodes.map((n) => {
  if (n.type === "paragraph") return ["p", tight, inline(n.inline.tokens)];
  if (n.type === "heading") return ["h", n.level, inline(n.inline.tokens)];
  if (n.type === "code") return ["code", n.info, n.text.trimEnd()];
  if (n.type === "rule") return ["hr"];
  if (n.type === "table") return ["table", n.align, n.rows.map((row) => row.map((cell) => inline(cell.tokens)))];
  if (n.type === "quote") return ["quote", null, tree(n.children, false)];
  const items = () => n.children.map((item) => ["li", null, tree(item.children, !n.loose)]);
  if (n.type === "list") return [n.ordered ? "ol" : "ul", n.start, items()];
});
const read = (pieces) => {
  const markdown = new m.Markdown();
  for (const piece of pieces) markdown.append(piece);
  return JSON.stringify(tree(markdown.finish().root.children, false));
};
"""

ASK = (
    TREE
    + """
return a0.map(([text, cuts]) => {
  const signs = Array.from({ length: text.length }, (_, at) => text[at]);
  const split = (places) => [0, ...places].map((at, number) => text.slice(at, places[number]));
  return [read([text]), read(signs), ...cuts.map((places) => read(split(places)))];
});"""
)


@pytest.fixture
def ask(lab):
    """Trees of texts, each whole, by character, and cut in other places."""

    def ask(asked):
        # JavaScript counts in UTF-16: a cut may fall within a character, as one in a stream never does.
        return [[json.loads(tree) for tree in trees] for trees in lab("markdown/blocks.js", ASK, asked)]

    return ask


EXAMPLES = {
    "paragraphs": "One\nline.\n\nTwo  \nlines\\\nmore.",
    "headings": "# One #\n## Two\n### \nfoo\n===\nbar\n---\n#no\n####### no",
    "emphasis": "*a* **b** ***c*** _d_ __e__ *a **b** c* **a *b* c** a_b_c *a*b 2 * 3 * 4 **",
    "code": "`a` `` ` `` `` a`b `` ` a ` `unclosed *b*",
    "fences": "```python\nprint(1)\n```\n~~~\n```\n~~~\n````\n```\n````\n``` a`b\n```\nopen",
    "indented": "a\n    b\n\n    c\n\n    d\n\n  e",
    "lists": "- a\n- b\n  - c\n\n    d\n- e\n\n1. x\n2. y\n\n7) z\n* o\n+ p",
    "loose": "- a\n\n- b\n\n\n- c",
    "tight": "- a\n  > b\n\n  c\n- d",
    "interrupting": "a\n- b\n\na\n2. b\n\na\n1. b\n\na\n-\n\n-\n\n  a",
    "quotes": "> a\nlazy\n> - b\nlazy\n\n> c\n\n> d\n> > e",
    "tables": "| a | b |\n|---|:-:|\n| `x\\|y` | **z** |\n| one |\n| 1 | 2 | 3 |\nafter\n\n"
    "x | y\n-|-\n\nfoo\na|b\n-|-\nc|d",
    "no tables": "a | b\n- | -\n\na\n-|-\n\n| a |\n|---|---|",
    "links": '[a](b) [a](<b c> "t") [a]( /u \'t\' ) [a](b(c)d) [*a*](b) [a][b] [a] [a](javascript:x) [a](b "t) '
    "![i *x*](u)",
    "nested links": "[a [b](c) d](e) [![i](u)](v) *[a*](b) [`a](b)`",
    "autolinks": "<https://a.example/?x=1&y=2> <a@b.example> <a b> <javascript:x> <x:y>",
    "escapes": "\\*a\\* \\# \\a &amp; &#65; &#x42; &#0; &nosuch; \\<b>",
    "rules": "***\n---\n_ _ _\n--\n- - -\na\n***\nb",
    "markup": "<b>a</b>\n\n<script>alert(1)</script>\n\n<div>\n*a*\n</div>",
    "strange": "\ufeffa\u00a0*b*\u2028c\u0085\x0c d\x00e\r\nf\rg\n\n\U0001f600*\U0001f600*\U0001f600",
    "tabs": "-\ta\n\n\tb\n\n>\t\tc\n\n1.\t\td\n\n\te\n\n- a\n\n\t\tb",
    "deep": "> - > 1. > - a\n> - > 1. > - b\n",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_read_as_the_oracle_reads_it(ask, name):
    """Whole, by character, and cut in three places."""
    text = EXAMPLES[name]
    (trees,) = ask([[text, [[1], [len(text) // 2], [len(text) // 3, len(text) - 1]]]])
    for tree in trees:
        assert pretty(tree) == pretty(expected(text))


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=[pytest.mark.slow] * bool(part)) for part in range(0, COUNT, AT_ONCE)]
)
def test_generated_texts_are_read_as_the_oracle_reads_them(ask, part):
    """Whole, by character, and in three random splits: the same tree."""
    asked = texts(min(AT_ONCE, COUNT - part), seed=part)
    for (text, cuts), trees in zip(asked, ask([list(each) for each in asked]), strict=True):
        wanted = expected(text)
        for way, tree in zip(("whole", "by character", *cuts), trees, strict=True):
            assert pretty(tree) == pretty(wanted), f"{text!r}, {way}"
