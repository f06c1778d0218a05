"""A strict reader of Prometheus's text format 0.0.4, which trusts no code of ours: what a scraper would choke on, or
read in another way than it is meant, is an AssertionError.
"""

import math
import re
from typing import NamedTuple

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"(?P<name>{NAME})(?:\{{(?P<labels>{LABEL}(?:,{LABEL})*)\}})? (?P<value>[^ ]+)")
HELP = re.compile(rf"# HELP (?P<name>{NAME}) (?P<text>(?:[^\\\n]|\\[\\n])+)")
TYPE = re.compile(rf"# TYPE (?P<name>{NAME}) (?P<type>counter|gauge|histogram)")
ONE_LABEL = re.compile(r'(?P<label>[^=,]+)="(?P<value>(?:[^"\\]|\\.)*)"')
UNESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


class Family(NamedTuple):
    """A metric: its type, and (name, labels) -> value."""

    type: str
    samples: dict


def parse(text):
    """Name -> Family."""
    assert text.endswith("\n"), "the last line has no end"
    families, open_help, current = {}, None, None
    for line in text[:-1].split("\n"):
        if match := HELP.fullmatch(line):
            assert match["name"] not in families, f"{match['name']} comes twice"
            open_help = match["name"]
        elif match := TYPE.fullmatch(line):
            assert match["name"] == open_help, f"{line}: no HELP before it"
            families[open_help] = current = Family(match["type"], {})
            own, open_help = match["name"], None
        else:
            match = SAMPLE.fullmatch(line)
            assert match is not None, f"no line of the format: {line!r}"
            assert current is not None, f"{line}: belongs to no metric"
            assert open_help is None, f"{line}: {open_help} has no TYPE"
            assert belongs(match["name"], own, current.type), f"{line}: stands among {own}"
            labels = labels_of(match["labels"] or "")
            assert (match["name"], labels) not in current.samples, f"{line}: comes twice"
            current.samples[match["name"], labels] = value_of(match["value"])
    for name, family in families.items():
        check(name, family)
    return families


def value(families, metric, /, **labels):
    """The one sample of a counter or a gauge with these labels; 0 where there is none."""
    return families[metric].samples.get((metric, tuple(sorted(labels.items()))), 0)


def total(families, metric, /, **labels):
    """The sum of all samples of a counter whose labels are these and any others."""
    wanted = set(labels.items())
    return sum(value for (_, found), value in families[metric].samples.items() if wanted <= set(found))


def count(families, metric):
    """How many values a histogram has seen."""
    return families[metric].samples[f"{metric}_count", ()]


def belongs(name, metric, kind):
    return name in ({f"{metric}{end}" for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {metric})


def labels_of(text):
    found = {}
    for match in ONE_LABEL.finditer(text):
        assert match["label"] not in found, f"{match['label']} comes twice"
        found[match["label"]] = re.sub(r"\\.", lambda escape: UNESCAPED[escape[0]], match["value"])
    return tuple(sorted(found.items()))


def value_of(text):
    if text == "+Inf":
        return math.inf
    assert re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", text), f"no number: {text!r}"
    return float(text)


def check(name, family):
    assert name.startswith("manent_")
    assert family.type != "counter" or name.endswith("_total"), f"{name} is a counter"
    assert all(value >= 0 for value in family.samples.values()), name
    if family.type == "histogram":
        buckets = [(dict(labels)["le"], value) for (sample, labels), value in family.samples.items() if labels]
        bounds = [value_of(bound) for bound, _ in buckets]
        assert bounds == sorted(set(bounds)), f"{name}: its bounds are {bounds}"
        assert bounds[-1] == math.inf, f"{name}: its bounds are {bounds}"
        counts = [value for _, value in buckets]
        assert counts == sorted(counts), f"{name}: its buckets do not add up"
        assert counts[-1] == count({name: family}, name)
