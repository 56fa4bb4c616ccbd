"""Plain text of a report that was exported as RTF, HTML or an HL7 v2 message."""

import re
import unicodedata
from html.parser import HTMLParser

# Mark-up is recognised by a tag that no report writes in prose ("mass < 1 cm").
_HTML = re.compile(
    r"<(?:!doctype|/?(?:html|body|p|br|div|span|b|ul|li|table|font|pre|h[1-6])\b)[^<>]{0,500}>",
    re.I,
)
_BLOCKS = {
    "p",
    "br",
    "div",
    "li",
    "tr",
    "ul",
    "ol",
    "table",
    "pre",
    "hr",
    *(f"h{i}" for i in range(1, 7)),
}
_HIDDEN = {"script", "style", "head", "title"}
_HL7 = re.compile(r"\A\s*(?:MSH|OBX|OBR|PID)\|", re.MULTILINE)
_SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}\|")
_TEXT_TYPES = {"TX", "FT", "ST", "CE", "CWE", ""}
_ESCAPE = re.compile(r"\\([^\\\r\n]{1,40})\\")
_RTF = re.compile(
    r"\\'([0-9a-fA-F]{2})"  # a byte
    r"|\\u(-?\d{1,6}) ?"  # a character
    r"|\\([a-z]{1,32})(-?\d{1,10})? ?"  # a control word
    r"|\\(.)"  # a control symbol
    r"|([{}])"
    r"|([^\\{}]+)"
    r"|(\\)",
    re.DOTALL,
)
_RTF_HIDDEN = {
    "fonttbl",
    "colortbl",
    "stylesheet",
    "info",
    "pict",
    "object",
    "header",
    "footer",
    "themedata",
    "datastore",
    "generator",
    "listtable",
    "latentstyles",
}
_RTF_SIGNS = {
    **dict.fromkeys(("par", "line", "row", "sect", "page"), "\n"),
    **dict.fromkeys(("tab", "cell"), " "),
    **{"emdash": "—", "endash": "–", "lquote": "‘", "rquote": "’"},
    **{"ldblquote": "“", "rdblquote": "”", "bullet": "•"},
}
_LIST = "\n- "


def plain(report: str) -> str:
    """Return a report's text without mark-up and control characters, one line a line feed."""
    text = report.lstrip("\ufeff")
    if text.lstrip().startswith("{\\rtf"):
        text = _from_rtf(text)
    elif _HL7.match(text):
        text = _from_hl7(text)
    if _HTML.search(text):
        text = _from_html(text)
    text = re.sub(r"\\\.(?:br|sp|ce)\d*\\", "\n", text)
    text = unicodedata.normalize("NFC", text)
    text = re.sub(r"\r\n?|[\u2028\u2029\x0b\x0c\x85]", "\n", text)
    text = re.sub(r"_x000[dD]_", "\n", text)  # the line end of a spreadsheet's export
    return "".join(
        c for c in text if c == "\n" or not unicodedata.category(c).startswith("C") or c == "\t"
    )


def _from_rtf(text: str) -> str:
    parts: list[str] = []
    stack: list[tuple[bool, int]] = []
    hidden, skip, fallback = False, 0, 1
    page = "cp1252"
    for token in _RTF.finditer(text):
        byte, code, word, number, symbol, brace, chars, _ = token.groups()
        if brace == "{":
            stack.append((hidden, fallback))
        elif brace == "}":
            hidden, fallback = stack.pop() if stack else (False, 1)
        elif word == "ansicpg" and number:
            page = f"cp{number}"
        elif word == "uc":
            fallback = int(number or 1)
        elif word in _RTF_HIDDEN or symbol == "*":
            hidden = True
        elif hidden:
            continue
        elif code:
            parts.append(_character(int(code) % 65536))
            skip = fallback
        elif byte:
            if skip:
                skip -= 1
            else:
                parts.append(_decoded(bytes.fromhex(byte), page))
        elif word:
            parts.append(_RTF_SIGNS.get(word, ""))
        elif symbol:
            parts.append({"~": " ", "_": "-", "-": "", "\n": "\n", "\r": "\n"}.get(symbol, symbol))
        elif chars:
            chars = chars.replace("\r", "").replace(
                "\n", ""
            )  # a line end of the file means nothing
            parts.append(chars[skip:])
            skip = max(0, skip - len(chars))
    return "".join(parts)


def _from_hl7(text: str) -> str:
    """Return the text of all OBX-5 of a text type; nothing of other segments."""
    segments: list[str] = []
    for line in re.split(r"[\r\n]+", text):
        if _SEGMENT.match(line.strip()):
            segments.append(line.strip())
        elif segments:
            segments[-1] += "\n" + line  # a break inside a field, by an export that wraps lines
    texts = []
    for segment in segments:
        fields = segment.split("|")
        if fields[0] == "OBX" and len(fields) > 5 and fields[2].strip() in _TEXT_TYPES:
            coded = fields[2].strip() in ("CE", "CWE")
            for value in fields[5].split("~"):
                chosen = "^".join(value.split("^")[1:2]) or value.split("^")[0] if coded else value
                texts.append(_ESCAPE.sub(_unescaped, chosen))
    return "\n".join(texts)


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code in ("F", "S", "T", "R", "E"):
        return {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}[code]
    if re.fullmatch(r"X(?:[0-9A-Fa-f]{2})+", code):
        return _decoded(bytes.fromhex(code[1:]), "latin-1")
    if code.startswith("."):
        return "\n" if code[1:3] in ("br", "sp", "ce") else " "
    return "" if code in ("H", "N") else match[0]


def _character(code: int) -> str:
    return "" if 0xD800 <= code <= 0xDFFF else chr(code)


def _decoded(data: bytes, page: str) -> str:
    try:
        return data.decode(page, "replace")
    except LookupError:
        return data.decode("cp1252", "replace")


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in _HIDDEN
        if tag in _BLOCKS:
            self.parts.append(_LIST if tag == "li" else "\n")

    def handle_endtag(self, tag: str) -> None:
        self.hidden = max(0, self.hidden - (tag in _HIDDEN))
        if tag in _BLOCKS:
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)


def _from_html(text: str) -> str:
    # A "<" before a number or white space is a sign of the text, not a tag.
    parser = _Text()
    parser.feed(re.sub(r"<(?![a-zA-Z/!])", "&lt;", text))
    parser.close()
    return "".join(parser.parts)
