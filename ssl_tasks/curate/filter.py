"""Keep the images of which a condition on the manifest's columns holds.

Logic has three values, as in SQL: what compares with a missing value is neither true nor false, nor is its contrary, and an
image goes unless the whole condition is true. Contrast and sharpness are measured where a condition names them and no step has.
"""

from typing import assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import conditions
from schemas.curation import Filter
from schemas.errors import UserError, did_you_mean
from ssl_tasks.curate.decisions import Decisions
from ssl_tasks.curate.pool import Pool
from ssl_tasks.data.manifest import column

MEASURED = ("contrast", "sharpness")
OPERATORS = {"==": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal}


def filter_rows(pool: Pool, config: Filter) -> Decisions:
    """Remove the rows that do not meet the condition.

    Raises:
        UserError: where the manifest has no such column, or two things are compared that do not compare.
    """
    condition, table, facts = conditions.parse(config.where), pool.rows, {}
    names = conditions.columns(condition)
    if any(name in MEASURED and table[name].null_count for name in names):
        seen = pool.measures()
        for name in MEASURED:
            facts[name] = column(seen, name)
            table = table.set_column(table.schema.get_field_index(name), name, seen[name])
    try:
        met = holds(condition, table)
    except UserError as error:
        raise UserError(f"stages.{pool.job.name}: {pool.step}: where `` {config.where} ``: {error}") from error
    unknown = met.null_count
    notes = [f"images of which the condition says nothing, since they lack a value: {unknown}"] if unknown else []
    kept = np.asarray(pc.fill_null(met, False))
    return Decisions(~kept, f"does not meet {config.where}", facts=facts, metrics={"without_value": unknown}, notes=notes)


def holds(condition: conditions.Condition, table: pa.Table) -> pa.Array:
    """Of each row of a table whether a condition holds, (N,): true, false, or null where a value is missing.

    Raises:
        UserError: see `filter_rows`.
    """
    match condition:
        case conditions.All(parts):
            return _folded(pc.and_kleene, parts, table)
        case conditions.Any(parts):
            return _folded(pc.or_kleene, parts, table)
        case conditions.Not(part):
            return pc.invert(holds(part, table))
        case conditions.Missing(missing):
            return pc.is_null(_values(missing, table))
        case conditions.Column():
            return holds(conditions.Comparison(condition, "==", True), table)
        case conditions.Comparison(left, operator, right):
            sides = [_values(side, table) if isinstance(side, conditions.Column) else pa.scalar(side) for side in (left, right)]
            return _compared(operator, sides, [left, right])
        case conditions.Membership(member, values):
            return _folded(pc.or_kleene, [conditions.Comparison(member, "==", value) for value in values], table)
        case _:
            assert_never(condition)


def _folded(function: pc.Function, parts: conditions.Conditions, table: pa.Table) -> pa.Array:
    first, *others = (holds(part, table) for part in parts)
    for other in others:
        first = function(first, other)
    return first


def _values(named: conditions.Column, table: pa.Table) -> pa.Array:
    if named.name not in table.column_names:
        near = did_you_mean(named.name, table.column_names) or f"there are {', '.join(table.column_names)}"
        raise UserError(f"no column '{named.name}'; {near}")
    values = table[named.name].combine_chunks()
    return pc.if_else(pc.is_nan(values), None, values) if pa.types.is_floating(values.type) else values


def _compared(operator: conditions.Operator, sides: list[pa.Array | pa.Scalar], said: list[conditions.Column | conditions.Value]) -> pa.Array:
    one, other = (_kind(side.type) for side in sides)
    if "nothing" in (one, other):
        return pa.nulls(max(len(side) for side in sides if isinstance(side, pa.Array)), pa.bool_())
    if one != other or one == "other" or (one == "true or false" and operator not in ("==", "!=")):
        told = [f"{side.name if isinstance(side, conditions.Column) else repr(side)} ({kind})" for side, kind in zip(said, (one, other), strict=True)]
        raise UserError(f"{told[0]} and {told[1]} do not compare by {operator}")
    if one == "number" and any(pa.types.is_floating(side.type) or pa.types.is_uint64(side.type) for side in sides):
        sides = [side.cast(pa.float64(), safe=False) for side in sides]
    return OPERATORS[operator](*sides)


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "true or false"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    return "nothing" if pa.types.is_null(kind) else "other"
