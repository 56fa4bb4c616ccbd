"""Text of a report that is a file of its own: .txt or Word .docx."""

import io
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from mama.data.tables.text import decode
from mama.errors import DataError

MOST_BYTES = 20_000_000
WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def read_document(data: bytes, path: Path) -> str:
    """Return the text of a file by its content, one line a paragraph.

    Raises:
        DataError: it is neither text nor a Word document, or is damaged or too large.
    """
    if not data.startswith(b"PK\x03\x04"):
        return decode(data, path)[0].strip()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            content = read_member(archive, "word/document.xml")
        paragraphs = ElementTree.fromstring(content).iter(f"{WORD}p")
        lines = ["".join(_pieces(paragraph)).strip() for paragraph in paragraphs]
    except Exception:  # damaged archives raise almost anything
        fix = "Save it as text"
        raise DataError("not a readable Word document", where=path.name, fix=fix) from None
    return "\n".join(line for line in lines if line)


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a file of an archive, of bounded size.

    Raises:
        ValueError: it is too large.
        KeyError: it is not there.
    """
    if archive.getinfo(name).file_size > MOST_BYTES:  # zipfile reads no more than this
        raise ValueError
    return archive.read(name)


def _pieces(paragraph: ElementTree.Element) -> list[str]:
    marks = {f"{WORD}tab": "\t", f"{WORD}br": "\n", f"{WORD}cr": "\n"}
    return [
        (element.text or "") if element.tag == f"{WORD}t" else marks.get(element.tag, "")
        for element in paragraph.iter()
    ]
