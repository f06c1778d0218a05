"""What a table says of a schema, and the examples that many of them share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Field = str | tuple[str, Any]
"""A sentence on a field, and an example. A sentence alone: the example follows from the type (an enum's first value,
the example of the schema that it refers to, true, null).
"""


class Told(NamedTuple):
    """A sentence on a schema, and its fields. A field that is missing is told as all of its name are (``common``).
    ``example``: a whole one, where the fields' own would make none that is real; ``without``: fields that are seldom
    there, and stand in no example.
    """

    description: str
    fields: Mapping[str, Field] = {}
    example: Any = None
    without: tuple[str, ...] = ()


Group = Mapping[str, Told]

SESSION = "01a22e55-6173-7a5a-85f1-bf3d1a96d065"
PARENT = "01a22d10-0b7c-7e21-9c55-3f6a1d2b7e90"
TURN = "01a22e55-6180-7dd7-919c-d02c6a732706"
OTHER_TURN = "01a22e9f-3c11-7b0e-8a4d-5e7f90a1b2c3"
MESSAGE = "01a22e55-6199-7c3e-b1d4-0f9e8d7c6b5a"
EVENT = "01a22e55-6192-7f4a-a2b6-7c8d9e0f1a2b"
REPLAY = "01a22e9f-3b00-7a6c-9d8e-1f2a3b4c5d6e"
SUITE = "01a22e9f-3a44-7d5b-8c7f-0a1b2c3d4e5f"
AT = "2026-11-30T21:21:17.482913Z"
LATER = "2026-11-30T21:21:18.094127Z"
EXPIRES = "2027-11-30T00:00:00Z"
HASH = "4f692db46594eba31d8707c963c6c686060795b4d1d0c4f4051a658bd8156e87"
OTHER_HASH = "d7ca1182f9a3b36bb23cffb209e10361f12bfb0d3b907d06e2afffc4e871ae10"
ROOT = "62592cdd91a6bbc910118509e5bd7bec6cef98d58a3a320999fe2523fed96ed8"
ORIGIN = "manent/01a22e55-6175-76d1-820d-3813e114e4e1/default"
KEY = f"{ORIGIN}+3538ae00+AfTDEm0q1sJqGQ0k8mR3Yd0z3C4Ck5m7Qp6hJzqv2x8B"
NOTE = (
    f"{ORIGIN}\n46\nYlks3ZGmu8kQEYUJ5b177GzvmNWKOjIJmf4lI/7Zbtg=\n\n"
    f"\u2014 {ORIGIN} NTiuAO7sC9jfHLuBF51aKadIt5EF15npsWVq7rZq0fI+MVfCdhvt5fK5/7fzPKZ7a9NkD9nkQvs5FJ+E42SxgaowAgk=\n"
)
QUESTION, ANSWER = "What does clause 4 limit?", "Clause 4 limits liability to the price paid."
TEXT = [{"type": "text", "text": QUESTION}]
ANSWERED = [{"type": "text", "text": ANSWER}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
METADATA = {"case": "7 O 112/26"}
CURSOR = "WzQyXQ"
