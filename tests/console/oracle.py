"""What markdown-it-py makes of a text, as a tree, and texts to ask it about.

The two differ where the console shows as text what CommonMark would read: HTML, link references, and entities beyond a
few. These are switched off in the oracle, or not generated. Nor is what ``is_disputed``.
"""

import random
import re
from itertools import pairwise

from markdown_it import MarkdownIt

ORACLE = MarkdownIt("commonmark", {"html": False}).enable("table").disable("reference")
ORACLE.normalizeLink = lambda url: url
ORACLE.normalizeLinkText = lambda url: url


def expected(text):
    """The tree of a text: lists of a type, what belongs to it, and its children."""
    tokens = iter(ORACLE.parse(text))
    return _blocks(tokens, None)


def _blocks(tokens, closing):
    found = []
    for token in tokens:
        if token.type == closing:
            break
        kind = token.type.removesuffix("_open")
        if kind == "paragraph":
            found.append(["p", token.hidden, _inline(next(tokens))])
            next(tokens)
        elif kind == "heading":
            found.append(["h", int(token.tag[1]), _inline(next(tokens))])
            next(tokens)
        elif kind in {"fence", "code_block"}:
            found.append(["code", token.info.strip() if kind == "fence" else None, token.content.rstrip()])
        elif kind == "hr":
            found.append(["hr"])
        elif kind == "table":
            found.append(_table(tokens))
        else:
            start = int(token.attrs.get("start", 1)) if kind == "ordered_list" else None
            names = {"blockquote": "quote", "ordered_list": "ol", "bullet_list": "ul", "list_item": "li"}
            found.append([names[kind], start, _blocks(tokens, f"{kind}_close")])
    return found


def _table(tokens):
    rows, aligns = [], []
    for token in tokens:
        if token.type == "table_close":
            return ["table", aligns, rows]
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "th_open":
            aligns.append(str(token.attrs.get("style", "")).removeprefix("text-align:") or None)
        elif token.type == "inline":
            rows[-1].append(_inline(token))
    raise AssertionError("a table has no end")


def _inline(token):
    stack = [[]]
    for child in token.children or ():
        if child.nesting > 0:
            own = [child.tag]
            if child.tag == "a":
                own += [child.attrs["href"], child.attrs.get("title") or None]
            stack[-1].append([*own, []])
            stack.append(stack[-1][-1][-1])
        elif child.nesting < 0:
            stack.pop()
        elif child.type == "text":
            _add_text(stack[-1], child.content)
        elif child.type == "image":
            stack[-1].append(["img", child.attrs["src"], child.attrs.get("title") or None, _plain(child.children)])
        else:
            names = {"code_inline": "code", "softbreak": "newline", "hardbreak": "break"}
            stack[-1].append([names[child.type], *([child.content] if child.type == "code_inline" else [])])
    return stack[0]


def _plain(tokens):
    spaces = {"softbreak", "hardbreak"}
    said = (_plain(t.children) if t.type == "image" else " " if t.type in spaces else t.content for t in tokens or ())
    return "".join(said)


def _add_text(children, text):
    if children and isinstance(children[-1], str):
        children[-1] += text
    elif text:
        children.append(text)


DISPUTED = re.compile(
    r"""
    `[^`]*\n[ \t>]+[^`]*`             # it keeps the indent of a paragraph's later lines in code, which is stripped
    | ^[ \t>]*(?:[-+*]|\d+[.)])[ \t]*\n[ \t>]*\n[ \t>]*\n  # two blank lines after an item without words end its list
    | \\[ \t]                         # a backslash takes the space behind it along, which may have made a break
    | ^[ >]*(?:[ ]{4}|\t)[ \t]*>        # it takes an indented sign for a quote's, once there is a quote
    | [\W_][*_]+\] | !\[[*_]           # it sees the ends of a text where those of a label are
    """,
    re.VERBOSE | re.MULTILINE,
)
TABLE_BELOW = re.compile(r"[ >]*[|:-][-|: \t]*")
OTHER_BLOCK = re.compile(r"[ >]*(?:[#>*+-]|\d+[.)]|```|~~~| {4})")


def is_disputed(text):
    """Whether markdown-it reads a text in a way of its own, which CommonMark's or GFM's definition does not have.

    A table whose head begins like another block is a table to it, and so is a heading of one cell; the rest is beside
    the expressions.
    """
    heads = [(above, below) for above, below in pairwise(text.split("\n")) if TABLE_BELOW.fullmatch(below)]
    if any(OTHER_BLOCK.match(above) or ("|" in above and not {"|", ":"} & set(below)) for above, below in heads):
        return True
    return DISPUTED.search(text) is not None


# --- texts ------------------------------------------------------------------------------------------------------------

WORDS = [
    "the",
    "log",
    "holds",
    "what",
    "was",
    "said",
    "and",
    "nobody",
    "edits",
    "it",
    "later",
    "ünïcode",
    "世界",
    "42",
    "a_b_c",
    "x*y",
    "https://a.example/b?c=d",
]
PIECES = [
    *("a", "b", "word", "two words", "é", "世", "\U0001f600", " ", "  ", "\n", "\n", "\n\n", "    ", "\t"),
    *("*", "**", "***", "_", "__", "`", "``", "```", "~~~", "[", "]", "(", ")", "![", "](", "](/u)", '](u "t")'),
    *("<", ">", "<http://x.example>", "<a@b.example>", "\\", "\\*", "&amp;", "&lt;", "&#65;", "&", "!", ".", ":"),
    *(
        "- ",
        "* ",
        "+ ",
        "1. ",
        "2. ",
        "3) ",
        "> ",
        "# ",
        "## ",
        "---",
        "***",
        "===",
        "- - -",
        "|",
        " | ",
        "|-|-|",
        ":-",
    ),
]


def written(chance):
    """A text as models write them: blocks within blocks."""
    return "\n".join(_block(chance, 0) for _ in range(chance.randint(1, 5)))


def soup(chance):
    """Pieces of Markdown in any order, without fences that begin in an item, and may not end there: the two count the
    blank lines in these in other ways; nor with a tab below a quote.
    """
    while True:
        text = "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 40)))
        if not re.search(r"(?:[-+*]|\d[.)])[ \t>]+(?:~~~|```)|>.*\n\t", text):
            return text


def _words(chance, most=9):
    return " ".join(_span(chance) for _ in range(chance.randint(1, most)))


def _span(chance):
    word = chance.choice(WORDS)
    forms = [word] * 12 + [
        f"**{word}**",
        f"*{word}*",
        f"_{word}_",
        f"`{word}`",
        f"[{word}](https://x.example/{word[:1]})",
    ]
    forms += [
        f"***{word}***",
        f"**{word} `{word}`**",
        f"![{word}](i.png)",
        f"\\*{word}",
        f"{word}  \n{word}",
        f"{word},",
    ]
    forms += [
        f"*{word} **{word}***",
        f"<https://x.example/{word[:1]}>",
        f"{word}\n{word}",
        "2 * 3",
        "[1]",
        "snake_case",
    ]
    return chance.choice(forms)


def _block(chance, depth):
    kind = chance.randrange(12 if depth < 3 else 6)
    if kind < 3:
        return _words(chance) + chance.choice(["\n", "\n", "", "\n\n"])
    if kind == 3:
        return chance.choice(["# ", "## ", "### "]) + _words(chance, 4) + "\n"
    if kind == 4:
        fence = chance.choice(["```", "~~~", "````"])
        return f"{fence}{chance.choice(['', 'python', 'c++ x'])}\nif a:\n    *b* = `c`\n\n# {_words(chance)}\n{fence}\n"
    if kind == 5:
        return chance.choice(["---\n", "***\n", f"{_words(chance, 3)}\n===\n", f"\n{_words(chance, 3)}\n---\n"])
    if kind == 6:
        return "> " + _block(chance, depth + 1).rstrip("\n").replace("\n", "\n> ") + "\n\n"
    if kind == 7:
        columns = chance.randint(1, 4)
        rows = [[_words(chance, 3).replace("\n", " ").replace("|", "") for _ in range(columns)] for _ in range(3)]
        marks = [chance.choice(["---", ":--", "--:", ":-:"]) for _ in range(columns)]
        table = ["| " + " | ".join(row) + " |" for row in [rows[0], marks, *rows[1:]]]
        return "\n" + "\n".join(table) + "\n\n"
    mark = chance.choice(["-", "*", "1.", "7)"])
    between = chance.choice(["", "", "\n"])
    return "".join(_item(chance, mark, depth) + between for _ in range(chance.randint(1, 4))) + chance.choice(
        ["", "\n"]
    )


def _item(chance, mark, depth):
    inside = "\n".join(_block(chance, depth + 1) for _ in range(chance.randint(1, 2))).rstrip("\n")
    indent = " " * (len(mark) + 1)
    lines = [indent + line if line else line for line in inside.split("\n")]
    return f"{mark} " + "\n".join(lines).removeprefix(indent) + "\n"


def texts(count, seed=1):
    """So many texts, each with three ways to cut it: the same for the same seed."""
    chance = random.Random(seed)
    found = []
    while len(found) < count:
        text = (written if len(found) % 2 else soup)(chance)
        if not is_disputed(text):
            found.append((text, [sorted(chance.sample(range(len(text) + 1), min(len(text), 5))) for _ in range(3)]))
    return found
