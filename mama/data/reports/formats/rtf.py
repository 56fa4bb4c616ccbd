"""Text of a report in Rich Text Format: what its reader sees on the page."""

import re

_START = re.compile(r"\{\s*\\rtf\d?|\A\s*\\rtf\d")
_TOKEN = re.compile(
    r"\\'([0-9a-fA-F]{2})"  # a byte
    r"|\\u(-?\d{1,6}) ?"  # a character
    r"|\\([a-zA-Z]{1,32})(-?\d{1,10})? ?"  # a control word
    r"|\\(.)"  # a control symbol
    r"|([{}])"
    r"|([^\\{}]+)"
    r"|(\\)",
    re.DOTALL,
)
# Destinations that are no text of the report: tables of the document, its properties, pictures,
# and what stands on every page or beside the text (names and numbers as a rule).
_HIDDEN_WORDS = (
    "fonttbl colortbl stylesheet info pict object themedata datastore generator listtable "
    "listoverridetable latentstyles revtbl rsidtbl filetbl xmlnstbl colorschememapping header "
    "headerl headerr headerf footer footerl footerr footerf ftnsep ftnsepc ftncn aftnsep "
    "aftnsepc aftncn annotation atnid atnauthor atntime atndate atnref atnparent footnote "
    "atnicn atrfstart atrfend bkmkstart bkmkend fldinst fldtype formfield datafield private "
    "template title subject author operator manager company category keywords comment doccomm "
    "hlinkbase userprops docvar mmathPr mhtmltag nonshppict shpinst sp sn sv tc tcn xe rxe txe "
    "pgdsctbl objclass objname objdata passwordhash blipuid picprop protusertbl wgrffmtfilter "
    "pnseclvl nextfile background fontemb fontfile falt panose oldcprops oldpprops oldsprops "
    "oldtprops ud do writereservation password"
)
_HIDDEN = frozenset(_HIDDEN_WORDS.split())
_VEILED = {"v", "deleted", "webhidden"}  # text that is there but not shown
_SIGNS = {
    **dict.fromkeys(("par", "line", "row", "sect", "page", "column", "nestrow"), "\n"),
    **dict.fromkeys(("tab", "cell", "nestcell", "emspace", "enspace", "qmspace"), " "),
    **{"emdash": "—", "endash": "–", "lquote": "‘", "rquote": "’"},
    **{"ldblquote": "“", "rdblquote": "”", "bullet": "•"},
}


def is_rtf(text: str) -> bool:
    """Return True if the text is RTF, or holds some behind a title."""
    return bool(_START.search(text))


def from_rtf(text: str) -> str:
    """Return the visible text; what stands outside the braces of RTF stays as it is."""
    start = _START.search(text)
    before = text[: start.start()].strip() if start else ""
    shown = _visible(text[start.start() :] if start else text)
    return f"{before}\n{shown}" if before else shown


def _visible(text: str) -> str:
    parts: list[str] = []
    stack: list[tuple[bool, bool, int]] = []
    hidden, veiled, skip, fallback = False, False, 0, 1
    outside = False  # behind the last brace
    page = "cp1252"
    for token in _TOKEN.finditer(text):
        byte, code, word, number, symbol, brace, chars, _ = token.groups()
        if brace == "{":
            stack.append((hidden, veiled, fallback))
            outside, skip = False, 0
        elif brace == "}":
            hidden, veiled, fallback = stack.pop() if stack else (False, False, 1)
            outside, skip = not stack, 0
        elif word == "ansicpg" and number:
            page = f"cp{number}"
        elif word == "uc":
            fallback = int(number or 1)
        elif word in _HIDDEN or symbol == "*":
            hidden = True
        elif word in _VEILED:
            veiled = number != "0"
        elif word == "plain":
            veiled = False
        elif hidden or veiled:
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
            parts.append(_SIGNS.get(word, ""))
        elif symbol:
            parts.append({"~": " ", "_": "-", "-": "", "\n": "\n", "\r": "\n"}.get(symbol, symbol))
        elif chars:
            if not outside:  # a line end of the file means nothing
                chars = chars.replace("\r", "").replace("\n", "")
            parts.append(chars[skip:])
            skip = max(0, skip - len(chars))
    return "".join(parts)


def _character(code: int) -> str:
    return "" if 0xD800 <= code <= 0xDFFF else chr(code)


def _decoded(data: bytes, page: str) -> str:
    try:
        return data.decode(page, "replace")
    except LookupError:
        return data.decode("cp1252", "replace")
