"""Statistics as hostile input: nothing but bounded counts of known categories is read."""

import json
from typing import Any

import pytest

from mama.errors import ProtocolError
from mama.exchange.protocol import Answer

GOOD: dict[str, Any] = {
    "minimum": 5,
    "patients": 60,
    "studies": 85,
    "tables": {"density": {"total": 65, "cells": {"A": 30, "B": 25, "C": None, "D": None}}},
}


def header(**changes: Any) -> str:
    answer = Answer(run="r", round=0, task="t", site="alder", status="ok")
    return json.dumps(json.loads(answer.encode()) | {"statistics": GOOD | changes})


def test_an_honest_answer_is_read_and_others_do_not_have_the_key() -> None:
    read = Answer.decode(header())
    assert read.statistics
    assert read.statistics.model_dump() == GOOD
    assert json.loads(read.encode())["statistics"] == GOOD
    # A server that does not know the key gets answers to its own tasks without it.
    assert "statistics" not in json.loads(read.model_copy(update={"statistics": None}).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"patients": 61},
        {"patients": -5},
        {"patients": 10**10},
        {"minimum": 0},
        {"minimum": 10**6},
        {"names": ["Doe"]},
        {"tables": {"names": {"total": 5, "cells": {"Doe": 5}}}},
        {"tables": {"vendor": {"total": 5, "cells": {"\x1b[31mEvil": 5}}}},
        {"tables": {"vendor": {"total": 5, "cells": {f"v{n}": 5 for n in range(10_000)}}}},
        {"tables": {"density": {"total": 60, "cells": {"A": 60, "B": 60}}}},
        {"tables": {"density": {"total": 60, "cells": {"A": 10}}}},
        {"tables": {"density": {"total": 60, "cells": {"A": 60, "B": 0}}}},
        {"tables": {"density": {"total": 60, "cells": {"A": 58}}}},
        {"tables": {"density": {"total": 60, "cells": {"A": "60 women"}}}},
    ],
)
def test_what_no_site_sends_is_refused_without_a_word_of_it(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as refused:
        Answer.decode(header(**changes))
    said = str(refused.value)
    assert "statistics: header does not follow the protocol" in said
    assert not any(word in said for word in ("Doe", "Evil", "women", "v1"))
