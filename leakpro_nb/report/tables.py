"""Grids: spans within bounds, columns aligned, tables cut to what a page can carry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from leakpro_nb.report.document import Cell, Row, Table, plain
from leakpro_nb.report.text import numeric

__all__ = ["alignments", "fit", "make", "widths"]

MAX_ROWS = 1000
MAX_COLUMNS = 100
MAX_CELLS = 20_000
PAGE_CHARACTERS = 115
_WRAP = 22

# Slots of a grid: the cell, and whether this slot is the cell's own corner (its top left).
_Slot = tuple[Cell, bool]


def make(
    head: Iterable[Sequence[Cell]], body: Iterable[Sequence[Cell]], caption: str = "", note: str = ""
) -> Table | None:
    """Build a table from rows of any shape; ``None`` when there is nothing in it.

    Spans are cut at the table's edge, short rows are filled, and what exceeds the limits is left out and
    said so in the note.
    """
    head_rows, body_rows = [row for row in head if row], [row for row in body if row]
    columns = min(MAX_COLUMNS, max((_width(row) for row in [*head_rows, *body_rows]), default=0))
    if not columns:
        return None
    limit = max(1, min(MAX_ROWS, MAX_CELLS // columns))
    notes = [note] if note else []
    if len(body_rows) > limit:
        notes.append(f"The first {limit:,} of {len(body_rows):,} rows are shown.")
    if any(_width(row) > columns for row in [*head_rows, *body_rows]):
        notes.append(f"The first {columns:,} columns are shown.")
    head_grid = _grid(head_rows[:limit], columns)
    body_grid = _grid(body_rows[:limit], columns)
    return Table(_rows(head_grid), _rows(body_grid), columns, caption, " ".join(notes))


def _width(row: Sequence[Cell]) -> int:
    return sum(min(max(cell.colspan, 1), MAX_COLUMNS) for cell in row)


def _grid(rows: Sequence[Sequence[Cell]], columns: int) -> list[list[_Slot]]:
    """Lay cells out as HTML does, without ever leaving the rows and columns there are."""
    grid: list[list[_Slot | None]] = [[None] * columns for _ in rows]
    for y, row in enumerate(rows):
        waiting = list(reversed(row))
        for x in range(columns):
            if grid[y][x] is None:
                cell = waiting.pop() if waiting else Cell()
                _place(grid, y, x, cell)
    return [[slot or (Cell(), True) for slot in row] for row in grid]


def _place(grid: list[list[_Slot | None]], y: int, x: int, cell: Cell) -> None:
    width = 1
    while width < min(cell.colspan, len(grid[y]) - x) and grid[y][x + width] is None:
        width += 1
    height = 1
    while height < min(cell.rowspan, len(grid) - y) and all(grid[y + height][x + i] is None for i in range(width)):
        height += 1
    cell = replace(cell, colspan=width, rowspan=height)
    for dy in range(height):
        for dx in range(width):
            grid[y + dy][x + dx] = (cell, dy == dx == 0)


def _rows(grid: list[list[_Slot]]) -> tuple[Row, ...]:
    return tuple(tuple(cell for cell, corner in row if corner) for row in grid)


def _flat(rows: Sequence[Row], columns: int) -> list[list[Cell]]:
    """Repeat spanning cells in every slot they cover, so that columns can be taken apart."""
    return [[replace(cell, colspan=1, rowspan=1) for cell, _ in row] for row in _grid(rows, columns)]


def alignments(table: Table) -> list[str]:
    """Return each column's alignment: what the author said, else right for numbers."""
    flat = _flat(table.body, table.columns)
    return [_alignment([row[x] for row in flat]) for x in range(table.columns)]


def _alignment(cells: list[Cell]) -> str:
    said = {cell.align for cell in cells if cell.align}
    if len(said) == 1:
        return said.pop()
    kinds = [numeric(plain(cell.children)) for cell in cells]
    numbers, known = kinds.count(True), len(kinds) - kinds.count(None)
    return "right" if numbers and numbers >= 0.6 * known else "left"


def widths(table: Table) -> list[int]:
    """Return the length of each column's longest cell, in characters."""
    flat = _flat((*table.head, *table.body), table.columns)
    return [max((len(plain(row[x].children)) for row in flat), default=0) for x in range(table.columns)]


def _needs(rows: list[list[Cell]]) -> list[int]:
    """Return the characters below which a column would be broken in ugly places."""
    needs = [0] * (len(rows[0]) if rows else 0)
    for row in rows:
        for x, cell in enumerate(row):
            words = plain(cell.children)
            longest = max((len(word) for word in words.split()), default=0)
            needs[x] = max(needs[x], min(len(words), max(longest, _WRAP)) + 3)
    return needs


def fit(table: Table) -> list[Table]:
    """Return tables that fit the page's width: turned if short and wide, else split with the index repeated."""
    head, body = _flat(table.head, table.columns), _flat(table.body, table.columns)
    if sum(_needs([*head, *body])) <= PAGE_CHARACTERS:
        return [table]
    index = _index_columns(body)
    if len(head) <= 1 and 0 < len(body) < table.columns - index and index <= 1:
        turned = _turn(head, body)
        if sum(_needs(turned)) <= PAGE_CHARACTERS:
            return [_table(turned[:1], turned[1:], table.caption, table.note)]
    return _split(head, body, index, table)


def _index_columns(body: list[list[Cell]]) -> int:
    """Count the leading columns that name their row."""
    count = 0
    while body and count < len(body[0]) and all(row[count].header for row in body):
        count += 1
    return max(count, 1)


def _turn(head: list[list[Cell]], body: list[list[Cell]]) -> list[list[Cell]]:
    rows = [*(head or [[Cell() for _ in body[0]]]), *body]
    turned = [[replace(row[x], align=None) for row in rows] for x in range(len(rows[0]))]
    return [[replace(cell, header=y == 0 or x == 0) for x, cell in enumerate(r)] for y, r in enumerate(turned)]


def _split(head: list[list[Cell]], body: list[list[Cell]], index: int, table: Table) -> list[Table]:
    needs = _needs([*head, *body])
    groups: list[list[int]] = []
    room = 0
    for x in range(index, table.columns):
        if not groups or needs[x] > room:
            groups.append([])
            room = max(PAGE_CHARACTERS - sum(needs[:index]), 1)
        groups[-1].append(x)
        room -= needs[x]
    parts = []
    for number, group in enumerate(groups, 1):
        chosen = [*range(index), *group]
        caption = table.caption if number == 1 else f"{table.caption} (continued)".strip()
        parts.append(
            _table(
                [[row[x] for x in chosen] for row in head],
                [[row[x] for x in chosen] for row in body],
                caption if table.caption else "",
                table.note if number == len(groups) else "",
            )
        )
    return parts


def _table(head: list[list[Cell]], body: list[list[Cell]], caption: str, note: str) -> Table:
    return Table(tuple(map(tuple, head)), tuple(map(tuple, body)), len((head or body)[0]), caption, note)
