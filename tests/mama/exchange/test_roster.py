"""A roster from the other side: only the coordinator's own, whole, and never an older one."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mama.errors import ProtocolError, SignatureError
from mama.exchange.protocol import MAX_ROSTER
from mama.exchange.roster import Member, Roster
from mama.exchange.signing import new_key, public_line, sign

KEY = new_key()
LINES = [public_line(new_key().public_key()) for _ in range(2)]
ROSTER = Roster(
    federation="demo",
    version=3,
    members=(
        Member(site="alder", public_key=LINES[0], share=2.0),
        Member(site="birch", public_key=LINES[1], status="revoked"),
    ),
)
SIGNED = ROSTER.signed(KEY)


def test_what_was_signed_comes_back() -> None:
    assert Roster.verified(SIGNED, KEY.public_key(), newest=3) == ROSTER
    assert [member.site for member in ROSTER.active] == ["alder"]


def test_an_older_one_is_refused() -> None:
    with pytest.raises(ProtocolError, match="version 3 is older than version 4"):
        Roster.verified(SIGNED, KEY.public_key(), newest=4)


def test_a_changed_one_or_one_of_another_is_refused() -> None:
    with pytest.raises(SignatureError):
        Roster.verified(ROSTER.signed(new_key()), KEY.public_key())
    with pytest.raises(SignatureError):
        Roster.verified(SIGNED.replace("alder", "elder"), KEY.public_key())
    envelope = json.loads(SIGNED)
    # Signed with the right key, but for something else.
    envelope["signature"] = sign(KEY, "share-1", envelope["roster"].encode()).hex()
    with pytest.raises(SignatureError):
        Roster.verified(json.dumps(envelope), KEY.public_key())


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "[]",
        lambda text: "3",
        lambda text: json.dumps({"roster": 3, "signature": "00"}),
        lambda text: json.dumps({"roster": "{}", "signature": "xy"}),
        lambda text: text + " " * MAX_ROSTER,
        lambda text: "[" * (MAX_ROSTER - 1),
    ],
)
def test_what_is_no_signed_roster_is_refused(damage: Callable[[str], str]) -> None:
    with pytest.raises(ProtocolError, match="is not a signed roster"):
        Roster.verified(damage(SIGNED), KEY.public_key())


def test_a_signed_text_that_is_no_roster_is_refused() -> None:
    text = '{"federation": "demo", "surprise": 1}'
    envelope = {"roster": text, "signature": sign(KEY, "roster-1", text.encode()).hex()}
    with pytest.raises(ProtocolError, match="does not follow the protocol"):
        Roster.verified(json.dumps(envelope), KEY.public_key())


@given(st.text(max_size=200))
@settings(max_examples=50, deadline=None)
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        Roster.verified(text, KEY.public_key())


def test_one_key_a_site() -> None:
    member = ROSTER.members[0]
    other = member.model_copy(update={"public_key": LINES[1]})
    for members in [(member, other), (member, member.model_copy(update={"site": "cedar"}))]:
        with pytest.raises(ValidationError, match="listed twice"):
            Roster(federation="demo", members=members)
