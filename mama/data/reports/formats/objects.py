"""Text of a report in JSON, such as a FHIR DiagnosticReport, without who it is about."""

import json
import re
from typing import Any

# Members of FHIR that hold prose.
_PROSE = frozenset(["conclusion", "div", "text", "valuestring", "description", "comment"])
# Members that name people, places, numbers and codes.
_LEFT_OUT_WORDS = (
    "subject patient performer author practitioner physician radiologist referrer identifier "
    "id uid mrn accession accessionnumber name patientname firstname lastname surname given "
    "family telecom phone email address birthdate dob birthtime issued date meta code coding "
    "status resourcetype reference extension encounter basedon resultsinterpreter url system "
    "version contenttype data contact sex gender age language"
)
_LEFT_OUT = frozenset(_LEFT_OUT_WORDS.split())


def from_json(text: str) -> list[str] | None:
    """Return the texts of an object or a list in JSON; None if the report is neither."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict | list):
        return None
    return _texts(value, "", '"resourceType"' in text)


def _texts(value: Any, member: str, fhir: bool) -> list[str]:
    if isinstance(value, dict):
        return [
            text
            for name, inner in value.items()
            if re.sub(r"[\W_]", "", name).lower() not in _LEFT_OUT
            for text in _texts(inner, name, fhir)
        ]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner, member, fhir)]
    if not isinstance(value, str) or not value.strip():
        return []
    if fhir:
        return [value] if member.lower() in _PROSE else []
    words = re.sub(r"[\W_]+|(?<=[a-z])(?=[A-Z])", " ", member).strip()
    plain_member = words.lower() in ("", "report", "text", "body", "content", "value")
    return [value if plain_member or value.lstrip()[:1] in "{<" else f"{words}: {value}"]
