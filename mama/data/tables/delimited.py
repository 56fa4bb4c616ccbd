"""Tables of cells between separators, parsed so that a mistake costs one row, not the file.

Python's csv module cannot go on behind an unclosed quote and gives no line of a cell, so records
are cut here. A quote within a quoted cell that no separator follows is text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

SEPARATORS = ",;\t|"
LINE_END = re.compile(r"\r\n|\n|\r")
# A cell behind its first quote, with doubled quotes within it. It cannot backtrack.
CLOSED = re.compile(r'((?:[^"]++|"")*+)" *')
SAMPLE = 6  # records that decide on the separator, within so many characters
SAMPLE_TEXT = 200_000


@dataclass
class Record:
    """One record: where it starts and ends in the text, its lines, cells, and their quotes.

    `quoted` are the cells that were in quotes; `opened` tells of a quote inside a cell that looks
    like the start of another cell, `unclosed` of one that never ended, `loose` of one that is text.
    """

    start: int
    end: int
    line: int
    cells: list[str] = field(default_factory=list)
    quoted: list[int] = field(default_factory=list)
    opened: bool = False
    unclosed: bool = False
    loose: bool = False

    @property
    def blank(self) -> bool:
        """True for an empty line."""
        return self.cells == [""] and not self.quoted


def records(text: str, separator: str, start: int = 0, line: int = 1) -> Iterator[Record]:
    """Yield the records of a text from a position on, which is at the given line."""
    plain = re.compile(rf"[^{re.escape(separator)}\r\n]*")
    while start < len(text):
        record = _record(text, separator, plain, Record(start, start, line))
        yield record
        line += len(LINE_END.findall(text, record.start, record.end))
        start = record.end


def find_separator(text: str) -> str:
    """Return the separator by which the header has several cells and the rows as many."""
    best, most = SEPARATORS[0], (0.0, 1)
    text = text[:SAMPLE_TEXT]
    for separator in SEPARATORS:
        sample: list[int] = []
        for record in records(text, separator):
            if not record.blank:
                sample.append(len(record.cells))
            if len(sample) == SAMPLE:
                break
        if not sample or sample[0] < 2:
            continue
        equal = sum(count == sample[0] for count in sample[1:]) / max(len(sample) - 1, 1)
        if (equal, sample[0]) > most or most == (0.0, 1):
            best, most = separator, (equal, sample[0])
    return best


def _record(text: str, separator: str, plain: re.Pattern[str], record: Record) -> Record:
    position = record.start
    while True:
        opening = position
        while text[opening : opening + 1] == " " != separator:
            opening += 1
        if text[opening : opening + 1] == '"':
            record.quoted.append(len(record.cells))
            cell, position = _quoted(text, separator, opening + 1, record)
        else:
            match = plain.match(text, position)
            cell, position = (match[0], match.end()) if match else ("", position)
        record.cells.append(cell)
        if text[position : position + 1] == separator:
            position += 1
            continue
        end = LINE_END.match(text, position)
        record.end = end.end() if end else len(text)
        return record


def _quoted(text: str, separator: str, position: int, record: Record) -> tuple[str, int]:
    """Return a quoted cell from behind its first quote, and the position behind its last."""
    match = CLOSED.match(text, position)
    if match and text[match.end() : match.end() + 1] in ("", separator, "\r", "\n"):
        return match[1].replace('""', '"'), match.end()
    parts: list[str] = []
    begin = position
    while True:
        quote = text.find('"', position)
        if quote < 0:
            record.unclosed = True
            return "".join(parts) + text[begin:], len(text)
        following = text[quote + 1 : quote + 2]
        if following == '"':
            parts.append(text[begin : quote + 1])
            begin = position = quote + 2
            continue
        behind = quote + 1
        while text[behind : behind + 1] == " " != separator:
            behind += 1
        if text[behind : behind + 1] in ("", separator, "\r", "\n"):
            return "".join(parts) + text[begin:quote], behind
        if quote > begin and text[quote - 1] in (separator, "\r", "\n"):
            record.opened = True  # the rest of the line is lost with the cell
            end = LINE_END.search(text, quote)
            return "".join(parts) + text[begin:quote], end.start() if end else len(text)
        record.loose = True
        position = quote + 1
