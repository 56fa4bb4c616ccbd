"""Text of a file in whichever usual encoding it was saved."""

import codecs
from pathlib import Path

from mama.errors import DataError

MOST_BYTES = 1_000_000_000  # far more than any table of reports
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_bytes(path: Path) -> bytes:
    """Read a file of bounded size.

    Raises:
        DataError: the file is larger than a gigabyte.
    """
    if path.stat().st_size > MOST_BYTES:
        raise DataError(
            "the table is larger than 1 GB", where=str(path), fix="Split it, or remove columns"
        )
    return path.read_bytes()


def decode(data: bytes, path: Path) -> tuple[str, bool]:
    """Decode text by its byte order mark, as UTF-8, else as Windows-1252.

    Returns:
        The text, and whether Windows-1252 was assumed.

    Raises:
        DataError: the data are not text.
    """
    guessed = False
    try:
        for mark, encoding in MARKS:
            if data.startswith(mark):
                text = data.decode(encoding)
                break
        else:
            text, guessed = _without_mark(data)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        fix = "Save it as UTF-8 CSV"
        raise DataError("the table is not a text file", where=str(path), fix=fix) from None
    return text, guessed


def _without_mark(data: bytes) -> tuple[str, bool]:
    for encoding, zeros in (("utf-16-le", data[1:400:2]), ("utf-16-be", data[0:400:2])):
        # Latin text in UTF-16 has a zero in every second byte.
        if zeros and zeros.count(0) > 0.9 * len(zeros) and len(data) % 2 == 0:
            return data.decode(encoding), False
    try:
        return data.decode("utf-8"), False
    except UnicodeDecodeError:
        return data.decode("cp1252"), True
