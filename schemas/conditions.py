"""Conditions on the manifest's columns, as `where:` states them: read with Python's own parser, of which little is let through.

    width >= 224 and sharpness > 20
    label in ['cat', 'dog'] or not 0.5 < `3_leakage.similarity` <= 1
    cluster is not null

A column is its name, in backticks where the name is no plain word, as those of provenance columns. `null` stands behind `is` or
`is not` alone. `and`, `or`, `not`, brackets and chains of comparisons mean what they do in Python.
"""

import ast
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.errors import did_you_mean

COLUMNS = (
    *("id", "uri", "sha256", "bytes", "width", "height", "mode", "contrast", "sharpness"),
    *("label", "split", "kept", "why", "duplicate_of", "cluster"),
)
"""Those that every manifest has; provenance columns, `STEP.NAME`, come with the steps."""
Operator = Literal["==", "!=", "<", "<=", ">", ">="]
Value = str | int | float | bool
OPERATORS: dict[type[ast.cmpop], Operator] = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
PIECE = re.compile(
    r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`(?P<name>[^`]*)`|(?P<bare>(?<![\w.])\d+_[a-z_]+\.\w+)|(?P<odd>&&?|\|\|?|<>|!(?!=)|~|(?<![<>=!:])=(?!=)|[#`])|\s"""
)
LITERALS = {"null": None, "true": True, "false": False}
INSTEAD = {"=": "==", "&&": "and", "&": "and", "||": "or", "|": "or", "<>": "!=", "!": "not", "~": "not"}
LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Column:
    """The values of a column; by itself a condition, for a column of true and false."""

    name: str


@dataclass(frozen=True)
class Comparison:
    """One side against another, at least one of them a column."""

    left: Column | Value
    operator: Operator
    right: Column | Value


@dataclass(frozen=True)
class Membership:
    """Whether a column's value is one of several."""

    column: Column
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Missing:
    """Whether a column has no value."""

    column: Column


@dataclass(frozen=True)
class Not:
    """The contrary."""

    part: "Condition"


@dataclass(frozen=True)
class All:
    """Whether all parts hold."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True)
class Any:
    """Whether a part holds."""

    parts: tuple["Condition", ...]


Condition = Column | Comparison | Membership | Missing | Not | All | Any
Conditions = Sequence[Condition]


def parse(text: str) -> Condition:
    """The condition that a text states.

    Raises:
        ValueError: with one line, where it states none.
    """
    names: dict[str, str] = {}
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes that Python may not know one day
            tree = ast.parse(PIECE.sub(lambda piece: _plain(piece, names), text.strip()), mode="eval")
        return _Reader(names).condition(tree.body)
    except SyntaxError as error:
        raise ValueError(_syntax(text.strip(), (error.offset or 0) - 1)) from error
    except (RecursionError, MemoryError) as error:
        raise ValueError("the condition is nested too deeply") from error


def columns(condition: Condition) -> list[str]:
    """Names of the columns that a condition speaks of, each once, in their order."""
    match condition:
        case Column(name) | Membership(Column(name)) | Missing(Column(name)):
            return [name]
        case Comparison(left, _, right):
            found = [side.name for side in (left, right) if isinstance(side, Column)]
        case Not(part):
            return columns(part)
        case All(parts) | Any(parts):
            found = [name for part in parts for name in columns(part)]
    return list(dict.fromkeys(found))


class _Reader:
    """Turns Python's syntax tree into a condition; `names` are the columns that stood in backticks."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def condition(self, node: ast.expr) -> Condition:
        match node:
            case ast.BoolOp(ast.And(), values):
                return All(tuple(map(self.condition, values)))
            case ast.BoolOp(ast.Or(), values):
                return Any(tuple(map(self.condition, values)))
            case ast.UnaryOp(ast.Not(), part):
                return Not(self.condition(part))
            case ast.Compare(left, operators, others):
                sides = [left, *others]
                parts = tuple(self._compared(a, o, b) for a, o, b in zip(sides, operators, others, strict=False))
                return parts[0] if len(parts) == 1 else All(parts)
            case ast.Name(name) if name not in LITERALS:
                return self._column(name)
        raise ValueError(f"'{self._source(node)}' is no condition: compare a column with a value, such as `width >= 224`")

    def _compared(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Condition:
        one = self._side(left)
        if isinstance(operator, ast.Is | ast.IsNot):
            if self._side(right) is not None or not isinstance(one, Column):
                raise ValueError("`is` asks of a column whether it has a value: `cluster is null`, `cluster is not null`")
            return Missing(one) if isinstance(operator, ast.Is) else Not(Missing(one))
        if isinstance(operator, ast.In | ast.NotIn):
            values = [self._side(value) for value in right.elts] if isinstance(right, ast.List | ast.Tuple) else []
            plain = tuple(value for value in values if value is not None and not isinstance(value, Column))
            if not isinstance(one, Column) or not values or len(plain) < len(values):
                raise ValueError("`in` stands between a column and a list of values: `label in ['cat', 'dog']`")
            found = Membership(one, plain)
            return found if isinstance(operator, ast.In) else Not(found)
        other = self._side(right)
        if one is None or other is None:
            raise ValueError("nothing is equal to null: write `is null` or `is not null`")
        if not isinstance(one, Column) and not isinstance(other, Column):
            raise ValueError(f"{one!r} and {other!r} are both values: compare a column with one")
        return Comparison(one, OPERATORS[type(operator)], other)

    def _side(self, node: ast.expr) -> Column | Value | None:
        match node:
            case ast.Name(name):
                return LITERALS[name] if name in LITERALS and name not in self.names else self._column(name)
            case ast.Constant(bool() | str() as value) | ast.Constant(None as value):
                return value
            case ast.Constant(int() | float() as value):
                return self._number(value)
            case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as value)) if not isinstance(value, bool):
                return self._number(-value)
        raise ValueError(f"'{self._source(node)}' is neither a column nor a value: no sums, calls or other expressions stand in a condition")

    def _number(self, value: int | float) -> int | float:
        if not abs(value) <= LARGEST:
            raise ValueError(f"{str(value)[:24]} is larger than any value of a column")
        return value

    def _column(self, name: str) -> Column:
        name = self.names.get(name, name)
        if "." not in name and name not in COLUMNS:
            known = ", ".join(COLUMNS)
            near = did_you_mean(name, COLUMNS) or f"there are {known}, and after steps that say more `STEP.NAME`; text stands in quotes"
            raise ValueError(f"no column '{name}'; {near}")
        return Column(name)

    def _source(self, node: ast.expr) -> str:
        text = ast.unparse(node)
        for plain, name in self.names.items():
            text = text.replace(plain, f"`{name}`")
        return text if len(text) <= 60 else f"{text[:57]}..."


def _plain(piece: re.Match[str], names: dict[str, str]) -> str:
    """What Python's parser is given for a piece of the text, of the same length: a word for a name in backticks."""
    found = piece[0]
    if piece["name"] is not None:
        if not piece["name"]:
            raise ValueError("a column's name is missing between backticks")
        word = str(len(names)).rjust(len(found), "_") if len(found) > len(str(len(names))) else f"_{len(names)}"
        names[word] = piece["name"]
        return word
    if piece["bare"]:
        raise ValueError(f"write `{found}` in backticks: its name is no plain word")
    if found in INSTEAD:
        raise ValueError(f"write `{INSTEAD[found]}` for `{found}`")
    if piece["odd"]:
        raise ValueError("a backtick is not closed" if found == "`" else "'#' stands in no condition, outside quotes")
    return " " if found.isspace() else found


def _syntax(text: str, place: int) -> str:
    """The line for a text that Python's parser stops at; that one gives no place where the text ends too early."""
    return f"no condition from '{text[place : place + 20]}' on" if place >= 0 else "the condition breaks off"
