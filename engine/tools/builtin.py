"""The built-in tools: ``echo {text}``, ``calculator {expression}``, ``timestamp {}``.

The calculator parses an expression with Python's parser and computes the nodes that it knows: nothing is ever run as
code. Everything is bounded: the length of an expression, its depth, the bits of an integer.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from msgspec import Meta

from ..clock import Clock, rfc3339
from ..errors import ToolError
from .base import Tool
from .functions import tool

MAX_EXPRESSION_CHARS = 1000
MAX_DEPTH = 100
MAX_BITS = 4096
MAX_DIGITS = 400
"""Most digits that ``round`` takes: beyond that it changes nothing, or computes a huge power of ten."""

Number = int | float

_CONSTANTS = {"pi": math.pi, "e": math.e}
_UNARY: Mapping[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


@tool
async def echo(text: Annotated[str, Meta(description="the text to give back")]) -> str:
    """Gives the text back as it is."""
    return text


@tool
async def calculator(
    expression: Annotated[str, Meta(description="for example: (2 + 3) * sqrt(16) / 7 ** 2", min_length=1)],
) -> str:
    """Computes an arithmetic expression: numbers, + - * / // % **, parentheses, pi, e, and the functions abs, round,
    min, max, sqrt, log (natural, or log(x, base)), exp, sin, cos, tan (in radians).
    """
    return str(evaluate(expression))


def builtin_tools(clock: Clock) -> tuple[Tool, ...]:
    """All built-in tools."""

    @tool
    async def timestamp() -> str:
        """The present date and time, in UTC, as RFC 3339."""
        return rfc3339(clock.now_us())

    return echo, calculator, timestamp


def evaluate(expression: str) -> Number:
    """The value of an arithmetic expression, as Python's own arithmetic has it. Raises ToolError."""
    if len(expression) > MAX_EXPRESSION_CHARS:
        raise ToolError(f"the expression is longer than {MAX_EXPRESSION_CHARS} characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the last two: nested too deeply for the parser
        raise ToolError("that is not an arithmetic expression") from None
    try:
        return _value(tree.body, 0)
    except ZeroDivisionError:
        raise ToolError("division by zero") from None
    except OverflowError:
        raise ToolError("a number is too large") from None
    except ValueError:
        raise ToolError("a function is not defined for its argument") from None


def _value(node: ast.expr, depth: int) -> Number:
    if depth > MAX_DEPTH:
        raise ToolError(f"the expression is nested more than {MAX_DEPTH} deep")
    match node:
        case ast.Constant(value=value) if type(value) in {int, float}:
            return _checked(value)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand, depth + 1))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _checked(_BINARY[type(op)](_value(left, depth + 1), _value(right, depth + 1)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _call(name, [_value(arg, depth + 1) for arg in args])
        case ast.BinOp(op=ast.BitXor()):
            raise ToolError("^ is not known; a power is written **")
        case _:
            known = " ".join([*_CONSTANTS, *_FUNCTIONS])
            raise ToolError(f"only numbers, + - * / // % **, parentheses and these names are known: {known}")


def _call(name: str, args: list[Number]) -> Number:
    function, least, most = _FUNCTIONS[name]
    if not least <= len(args) <= most:
        raise ToolError(f"{name} takes {least if least == most else f'{least} to {most}'} arguments, not {len(args)}")
    return _checked(function(*args))


def _checked(value: Any) -> Number:
    """A finite real number of bounded size."""
    if isinstance(value, complex):
        raise ToolError("the result is not a real number")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ToolError(f"an integer is too large: {MAX_BITS} bits is the maximum")
    if not isinstance(value, int) and not math.isfinite(value):
        raise OverflowError
    return value  # type: ignore[no-any-return] # a number by now


def _power(base: Number, exponent: Number) -> Any:
    """A power, refused before it is computed if it would be far too large: a power of integers can fill any memory."""
    if isinstance(base, int) and isinstance(exponent, int) and (base.bit_length() - 1) * exponent > MAX_BITS:
        raise ToolError(f"an integer is too large: {MAX_BITS} bits is the maximum")
    return base**exponent


def _round(number: Number, digits: Number | None = None) -> Number:
    if digits is None:
        return round(number)
    if not isinstance(digits, int) or abs(digits) > MAX_DIGITS:
        raise ToolError(f"round takes digits as a whole number from -{MAX_DIGITS} to {MAX_DIGITS}")
    return round(number, digits)


_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_FUNCTIONS: Mapping[str, tuple[Callable[..., Any], int, int]] = {  # with the least and the most arguments
    "abs": (abs, 1, 1),
    "round": (_round, 1, 2),
    "min": (lambda *numbers: min(numbers), 1, 100),
    "max": (lambda *numbers: max(numbers), 1, 100),
    "sqrt": (math.sqrt, 1, 1),
    "log": (math.log, 1, 2),
    "exp": (math.exp, 1, 1),
    "sin": (math.sin, 1, 1),
    "cos": (math.cos, 1, 1),
    "tan": (math.tan, 1, 1),
}
