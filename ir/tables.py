"""A product of looked-up rows is looked up in the product of the whole table.

Where a text of n places has fewer characters than half of that, `embedding(x) @ w` multiplies every row of the table
once and not every place's: row i of the table times w is the product's row for all places with the number i. The
gradients, taken of what came out, are as cheap: those of all places are added up by number before they are multiplied.

A row that no number names is multiplied too. So if it is not finite, neither is the gradient of w.
"""

from __future__ import annotations

from graphc.ir import ops
from graphc.ir.graph import Graph, Value, located
from graphc.ir.rewrite import rebuild
from graphc.ir.trail import Trail
from graphc.ir.types import Shape, bound

WORTHWHILE = 2  # places of each row of the table, at least


def multiply_tables(graph: Graph, trail: Trail | None = None) -> Graph:
    """Products of rows looked up in a small table become rows of one product, a bias included."""
    if not any(value.op is ops.gather for value in graph.values()):
        return graph
    return rebuild(graph, multiply_table, trail)


def multiply_table(value: Value) -> Value | None:
    if value.op not in (ops.dot, ops.add) or len(value.shape) != 2:
        return None
    with located(value.origin):
        return multiplied(value) if value.op is ops.dot else shifted(value)


def multiplied(product: Value) -> Value | None:
    rows, weights = product.operands
    found = looked_up(rows)
    if found is None:
        return None
    table, numbers = found
    if WORTHWHILE * bound(table.shape[0]) > bound(product.shape[0]):
        return None
    return look_up(ops.dot(table, weights), numbers, product.shape)


def shifted(total: Value) -> Value | None:
    """Rows of such a product with one bias for all: the table takes it."""
    for rows, bias in (total.operands, total.operands[::-1]):
        found = looked_up(rows)
        if found is None or found[0].op is not ops.dot or not is_one_row(bias):
            continue
        table, numbers = found
        row = ops.reshape(bias.operands[0], shape=(1, table.shape[1]))
        return look_up(ops.add(table, ops.broadcast(row, shape=table.shape)), numbers, total.shape)
    return None


def is_one_row(value: Value) -> bool:
    return value.op is ops.broadcast and value.operands[0].type.count == value.shape[-1]


def looked_up(rows: Value) -> tuple[Value, Value] | None:
    """The table [count, width] and the numbers [...] of its rows that are `rows`, in their order; None: it is no such.

    Views on the way may put the places in another order, but not the numbers of a row.
    """
    if len(rows.shape) < 2:
        return None
    if rows.op is ops.gather:
        table, index = rows.operands[0], rows.operands[-1]
        is_of_rows = rows.attrs["places"] == (-1, len(rows.shape) - 1) and index.op is ops.broadcast
        if not is_of_rows or index.operands[0].shape[-1] != 1:
            return None
        places = rows.shape[:-1]
        one = ops.broadcast(index.operands[0], shape=(*places, 1))
        return table, ops.reshape(one, shape=places)
    if rows.op not in (ops.transpose, ops.reshape) or rows.shape[-1] != rows.operands[0].shape[-1]:
        return None
    found = looked_up(rows.operands[0])
    if found is None or rows.op is ops.reshape:
        return found
    order, (table, numbers) = rows.attrs["permutation"], found
    if order[-1] != len(order) - 1:
        return None
    ordered = ops.reshape(numbers, shape=rows.operands[0].shape[:-1])
    return table, ops.transpose(ordered, permutation=order[:-1])


def look_up(table: Value, numbers: Value, shape: Shape) -> Value:
    """The rows of a table with these numbers, as an array of that shape."""
    width = table.shape[1]
    places = (*numbers.shape, width)
    index = ops.broadcast(ops.reshape(numbers, shape=(*numbers.shape, 1)), shape=places)
    return ops.reshape(ops.gather(table, index, places=(-1, len(numbers.shape))), shape=shape)
