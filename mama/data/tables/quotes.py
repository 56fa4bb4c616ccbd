"""Signs of an unclosed quote: a cell that swallowed the rows below it."""

import re
from collections.abc import Iterable, Iterator

from mama.data.tables.delimited import LINE_END, Record, records

LONG = 200  # lines of a cell that no report has
TIMES = 20  # as many times the lines of any other cell
SHORTEST_KEY = 3  # characters of a cell that tells a row from a sentence
SHORTEST_NUMBER = 5


def swallowed(record: Record, keys: "Keys", longest: int, separator: str) -> bool:
    """Return whether a quoted cell of the record holds the rows below it.

    Args:
        record: the record.
        keys: shapes of keys seen in other rows.
        longest: lines of the longest cell of other rows.
        separator: the separator of the table.
    """
    if record.unclosed or record.opened:
        return True
    for number in record.quoted:
        lines = len(LINE_END.findall(record.cells[number])) + 1
        if lines > LONG and lines > TIMES * longest:
            return True
        if lines > 1 and keys.inside(record, number, separator):
            return True
    return False


class Keys:
    """Shapes of the cells by column, which tell a row from a line of a report.

    Args:
        width: number of columns.
    """

    def __init__(self, width: int):
        self.width = width
        self.shapes: list[set[str]] = [set() for _ in range(width)]

    def learn(self, record: Record) -> None:
        """Take the shapes of a row's cells that look like keys."""
        for number, cell in enumerate(record.cells[: self.width]):
            if shape := _shape(cell):
                self.shapes[number].add(shape)

    def like_a_row(self, cells: Iterable[str]) -> bool:
        """Return whether cells are as many as the columns, one of them with the shape of a key."""
        cells = list(cells)
        return len(cells) == self.width and any(
            _shape(cell) in shapes for cell, shapes in zip(cells, self.shapes, strict=True)
        )

    def inside(self, record: Record, number: int, separator: str) -> bool:
        """Return whether a line of a record's cell looks like a row."""
        every = LINE_END.split(record.cells[number])
        # Only of the first cell does the first line begin a row.
        lines = every[min(number, 1) :]
        whole = [line for line in lines if line.count(separator) >= self.width - 1]
        ends = every[-1].count(separator) >= number > 0
        if not (whole or ends):
            return False
        own = self._with(record)
        rows = [cells for line in whole if len(cells := _cells(line, separator)) == self.width]
        if any(own.like_a_row(cells) for cells in rows):
            return True
        # Keys too short for a shape of their own: the next number, or a quote that is not doubled.
        if any(_next_row(record, number, cells) for cells in rows):
            return True
        # A quote in a row below ended the cell: the first line is the end of a row, the last one
        # the beginning of another.
        rest, start = _cells(every[0], separator), _cells(every[-1], separator)
        keys = zip(start[:number], own.shapes, strict=False)
        return (
            len(rest) == self.width - number
            and len(start) == number + 1
            and any(_shape(cell) in shapes for cell, shapes in keys)
        )

    def _with(self, record: Record) -> "Keys":
        own = Keys(self.width)
        own.learn(record)
        own.shapes = [mine | theirs for mine, theirs in zip(own.shapes, self.shapes, strict=True)]
        return own

    def rows_inside(self, record: Record, text: str, separator: str) -> Iterator[tuple[int, int]]:
        """Yield position and line of each line within a record that looks like a row."""
        own = self._with(record)
        line = record.line
        for end in LINE_END.finditer(text, record.start, record.end):
            line += 1
            if end.end() >= record.end:
                return
            stop = LINE_END.search(text, end.end())
            inner = text[end.end() : stop.start() if stop else len(text)]
            if inner and own.like_a_row(next(records(inner, separator)).cells):
                yield end.end(), line


def _next_row(record: Record, quoted: int, cells: list[str]) -> bool:
    """Return whether cells may be of the row below a record, by their keys."""
    pairs = list(enumerate(zip(record.cells, cells, strict=False)))
    return any(
        _follows(own, other) or (record.loose and _short_shape(own) == _short_shape(other) != "")
        for column, (own, other) in pairs
        if column != quoted
    )


def _follows(key: str, other: str) -> bool:
    """Return whether a key is the next number, as A2 of A1 or 102 of 101; 1 and 2 may be a list."""
    one, two = (re.fullmatch(r"(\S*?)(\d{1,18})", text.strip()) for text in (key, other))
    if not one or not two or one[1] != two[1] or not (one[1] or len(one[2]) >= SHORTEST_KEY):
        return False
    return int(two[2]) == int(one[2]) + 1


def _short_shape(cell: str) -> str:
    cell = cell.strip()
    if re.search(r"\s", cell) or not re.search(r"\d", cell):
        return ""
    return re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", cell))


def _cells(line: str, separator: str) -> list[str]:
    return next(records(line, separator)).cells if line else [""]


def _shape(cell: str) -> str:
    """Return the shape of a cell that may be a key, such as 9.9.9 of 1.20.300; else nothing."""
    cell = cell.strip().strip('"')
    if len(cell) < SHORTEST_KEY or re.search(r"\s", cell) or not re.search(r"\d", cell):
        return ""
    shape = re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", cell))
    if shape == "9":
        return f"9x{len(cell)}" if len(cell) >= SHORTEST_NUMBER else ""
    return re.sub(r"(9\.)+", "9.", shape)
