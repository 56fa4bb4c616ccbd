"""Text of a report in HTML or XML, such as a CDA document, without who it is about."""

import re
from html.parser import HTMLParser

# Elements of HTML, which no report writes in prose ("mass < 1 cm").
_HTML_WORDS = (
    "html body head title meta link base style script p br div span a b i u s q em strong "
    "small big sub sup tt code kbd samp var cite mark del ins strike center font pre hr h1 h2 "
    "h3 h4 h5 h6 ul ol li dl dt dd table thead tbody tfoot tr td th caption colgroup col "
    "blockquote address article section header footer main nav aside figure img form input "
    "label button select option textarea abbr acronym nobr wbr noscript iframe object"
)
_HTML = frozenset(_HTML_WORDS.split())
_TAG = re.compile(
    r"<(?:[!?](?=[a-z\[])|(?P<end>/?)(?P<name>[a-z][\w:.-]{0,60}))[^<>]{0,500}>", re.I
)
_INLINE_WORDS = (
    "a b i u s q em strong small big sub sup tt code kbd samp var cite mark del ins strike "
    "font span abbr acronym nobr wbr label td th content reference linkhtml html head title "
    "body meta link base style script"
)
_INLINE = frozenset(_INLINE_WORDS.split())
_LIST = "\n- "
# Elements that name people, places and numbers, or hold no text.
_HIDDEN_WORDS = (
    "script style head recordtarget patientrole patient patientname patientid birthtime "
    "birthdate dob mrn accession accessionnumber author custodian legalauthenticator "
    "authenticator participant informant dataenterer informationrecipient documentationof "
    "componentof relateddocument infulfillmentof authorization assignedauthor assignedentity "
    "assignedperson representedorganization name given family prefix suffix addr telecom id "
    "setid languagecode realmcode typeid templateid performer subject firstname lastname "
    "surname familyname givenname physician radiologist doctor referrer"
)
_HIDDEN = frozenset(_HIDDEN_WORDS.split())
# Elements of XML whose names say nothing of their text.
_UNNAMED_WORDS = (
    "clinicaldocument component structuredbody section text paragraph item list content table "
    "tr td th caption report reports document root body narrative value entry row record data "
    "string line act observation nonxmlbody"
)
_UNNAMED = frozenset(_UNNAMED_WORDS.split())


def is_markup(text: str) -> bool:
    """Return True if the text has tags of HTML, a declaration, or paired tags of XML."""
    opened: set[str] = set()
    closed: set[str] = set()
    for tag in _TAG.finditer(text):
        name = (tag["name"] or "").lower()
        if not name or name in _HTML:
            return True
        (closed if tag["end"] else opened).add(name)
    return bool(opened & closed)


def from_markup(text: str) -> str:
    """Return the text between the tags; an element of XML gives its name as a heading."""
    parser = _Text()
    # A "<" before a number or white space is a sign of the text, not a tag.
    parser.feed(re.sub(r"<(?![a-zA-Z/!?])", "&lt;", text))
    parser.close()
    return "".join(parser.parts)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden: list[str] = []  # names of the open elements that are left out
        self.heading = ""
        self.inline = _INLINE

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        tag = tag.rpartition(":")[2]
        if tag == "section":
            self.inline = _INLINE - {"title"}  # of CDA: a heading
        if tag == "body":
            self.hidden = []
        self.heading = ""
        if tag in _HIDDEN:
            self.hidden.append(tag)
        if tag not in self.inline:
            self.parts.append(_LIST if tag == "li" else "\n")
        if tag not in _HTML | _INLINE | _UNNAMED:
            self.heading = tag.replace("_", " ").replace("-", " ").replace(".", " ")

    def handle_endtag(self, tag: str) -> None:
        tag = tag.rpartition(":")[2]
        self.heading = ""
        if tag in self.hidden:
            del self.hidden[self.hidden.index(tag) :]
        if tag in ("td", "th"):
            self.parts.append(" ")
        elif tag not in self.inline and tag not in ("br", "hr", "img"):
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if self.hidden:
            return
        if self.heading and data.strip():
            self.parts.append(f"{self.heading}: ")
            self.heading = ""
        self.parts.append(data)
