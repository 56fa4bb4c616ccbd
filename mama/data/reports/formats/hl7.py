"""Text of an HL7 v2 message: what its observations say, and nothing of who they are about."""

import re

_NAMES = (
    "MSH|FHS|BHS|BTS|FTS|EVN|PID|PD1|PV1|PV2|NK1|GT1|IN1|IN2|AL1|DG1|ORC|OBR|OBX|NTE|MSA|TXA|"
    "ROL|PRT|SPM|SFT|CTD|CTI|DSC|FT1|TQ1|RXA|SCH|AIS|AIL|AIP|RGS|ZDS|Z[A-Z][A-Z0-9]"
)
_STARTS = "MSH|FHS|BHS|PID|OBX|OBR|ORC|PV1|NTE|EVN"  # of a message, or of a part of one
_FIRST = re.compile(rf"^[ \t\x0b]*(?:{_STARTS})\|", re.MULTILINE)
_HEADER = re.compile(r"(?:^|(?<=[\r\n\x0b ]))[MFB]SH([^\w\s])(?=\S{2,5}\1)")
_SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}\|")
# Segments of a message whose line ends were lost.
_INLINE = re.compile(rf"(?:[ \t]+|(?:\\+[rn])+)(?=(?:{_NAMES})\||\Z)")
_TEXT_TYPES = {"TX", "FT", "ST", "CE", "CWE", ""}
_ESCAPE = re.compile(r"\\([^\\\r\n]{1,40})\\")


def is_hl7(text: str) -> bool:
    """Return True if a line of the text begins a segment, whatever stands before it."""
    return bool(_HEADER.search(text) or _FIRST.search(text.replace("\r", "\n")))


def from_hl7(text: str) -> str:
    """Return the text of all OBX-5 of a text type, or of the notes if there is none.

    Nothing of other segments is returned, nor what stands before the first.
    """
    header = _HEADER.search(text)
    if header and header[1] != "|":
        text = text.replace("|", " ").replace(header[1], "|")
    segments: list[str] = []
    for line in re.split(r"[\r\n\x0b]+", _INLINE.sub("\n", text)):
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
    if not texts:
        notes = [segment.split("|") for segment in segments if segment.startswith("NTE|")]
        texts = [_ESCAPE.sub(_unescaped, fields[3]) for fields in notes if len(fields) > 3]
    return "\n".join(texts)


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code in ("F", "S", "T", "R", "E"):
        return {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}[code]
    if re.fullmatch(r"X(?:[0-9A-Fa-f]{2})+", code):
        return bytes.fromhex(code[1:]).decode("latin-1")
    if code.startswith("."):
        return "\n" if code[1:3] in ("br", "sp", "ce") else " "
    return "" if code in ("H", "N") else match[0]
