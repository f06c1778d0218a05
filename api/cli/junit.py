"""JUnit's XML, as continuous integration reads it: one test case for each thing that was checked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from xml.etree import ElementTree as ET

import msgspec

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
REPLACEMENT = "\ufffd"


class Case(msgspec.Struct, frozen=True):
    """One test case. ``failure``: what was checked is not so; ``error``: it could not be checked; ``skipped``: it was
    not. All three are texts, whose first line is the message.
    """

    suite: str
    name: str
    seconds: float
    failure: str | None = None
    error: str | None = None
    skipped: str | None = None


def junit(cases: Iterable[Case]) -> bytes:
    """The document: a suite for all neighbours of one suite's name, in the order given."""
    root = ET.Element("testsuites", name="manent")
    everything: list[Case] = []
    for name, each in groupby(cases, key=lambda case: case.suite):
        of_suite = list(each)
        everything += of_suite
        suite = ET.SubElement(root, "testsuite", {"name": _clean(name)} | _counts(of_suite))
        for case in of_suite:
            suite.append(_case(case))
    root.attrib |= _counts(everything)
    ET.indent(root)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _counts(cases: list[Case]) -> dict[str, str]:
    return {
        "tests": str(len(cases)),
        "failures": str(sum(case.failure is not None for case in cases)),
        "errors": str(sum(case.error is not None for case in cases)),
        "skipped": str(sum(case.skipped is not None for case in cases)),
        "time": f"{sum(case.seconds for case in cases):.3f}",
    }


def _case(case: Case) -> ET.Element:
    element = ET.Element("testcase", classname=_clean(case.suite), name=_clean(case.name), time=f"{case.seconds:.3f}")
    for kind in ("failure", "error", "skipped"):
        text = getattr(case, kind)
        if text is not None:
            message = _clean(text)
            ET.SubElement(element, kind, message=message.partition("\n")[0]).text = message
    return element


def _clean(text: str) -> str:
    """Text without the characters that no XML can hold."""
    return _NOT_IN_XML.sub(REPLACEMENT, text)
