"""Plain text of a report that was exported as RTF, HTML, XML, JSON or an HL7 v2 message."""

import html
import re
import unicodedata

from mama.data.reports.formats.hl7 import from_hl7, is_hl7
from mama.data.reports.formats.markup import from_markup, is_markup
from mama.data.reports.formats.objects import from_json
from mama.data.reports.formats.rtf import from_rtf, is_rtf

_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,8}\d{0,2});")
_BREAK = re.compile(r"\\\.(?:br|sp|ce)\d*\\")  # of HL7
_LINE_END = re.compile(r"(?:\\+r)?\\+n|\\+r(?![a-z])")  # written out by an export


def plain(report: str) -> str:
    """Return a report's text without mark-up and control characters, one line a line feed."""
    text = report.lstrip("\ufeff")
    if (values := from_json(text)) is not None:
        return "\n".join(plain(value) for value in values)
    if is_rtf(text):
        text = from_rtf(text)
    elif is_hl7(text):
        text = from_hl7(text)
    else:
        text = _LINE_END.sub("\n", _BREAK.sub("\n", text))
        text = from_hl7(text) if is_hl7(text) else text
    text = _CDATA.sub(r"\1", text)
    if is_markup(text):
        text = from_markup(text)
    elif _ENTITY.search(text):
        text = html.unescape(text)  # only known entities change
        text = from_markup(text) if is_markup(text) else text
    text = _BREAK.sub("\n", text)
    text = unicodedata.normalize("NFC", text)
    text = re.sub(r"\r\n?|[\u2028\u2029\x0b\x0c\x85¶]", "\n", text)
    text = re.sub(r"_x000[dD]_", "\n", text)  # the line end of a spreadsheet's export
    return "".join(
        c for c in text if c == "\n" or not unicodedata.category(c).startswith("C") or c == "\t"
    )
