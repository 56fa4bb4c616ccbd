"""Coordinator's gain table: last evaluation beside the first, and reasons for missing figures."""

import re
from pathlib import Path

from tests.server.report.test_page import NOT_ENOUGH, federated, finished, report


def gained(page: str) -> list[list[str]]:
    """The cells of the table of what the hospitals gained."""
    table = page.split("What the hospitals gained")[1].split("</table>")[0]
    lines = re.findall(r"<tr>(.*?)</tr>", table)
    return [
        [
            " ".join(re.sub("<[^>]+>", " ", cell).split())
            for cell in re.findall(r"<t[hd].*?</t[hd]>", line)
        ]
        for line in lines
    ]


def test_the_gain_is_the_last_evaluation_less_the_first(tmp_path: Path) -> None:
    events = finished()
    earlier = federated(0.55, 0.6)
    earlier["zero_shot"]["suspicious"]["sites"] = {"a": 0.5, "b": 0.7}
    events[4] |= {"federated": earlier}
    page = report(tmp_path, events, {"federated": federated(None, 0.837)})
    assert gained(page) == [
        ["zero-shot AUC", "after round 2", "final model", "change"],
        ["Breast density"],
        [f"all sites Not measured: {NOT_ENOUGH}.", "0.550", "–", "–"],
        ["a", "0.550", "–", "–"],
        ["b", "–", "–", "–"],
        ["Suspicious lesion"],
        ["all sites", "0.600", "0.837", "+0.237"],
        ["a", "0.500", "0.837", "+0.337"],
        ["b", "0.700", "–", "–"],
    ]
    assert "Round 0 is not known here" in page
    assert "There are no intervals" in page
    assert "The two evaluations are not of the same sites" in page
    assert "own model, trained on its data alone, is not known here" in page


def test_an_evaluation_of_round_0_is_the_first(tmp_path: Path) -> None:
    first = {"event": "evaluation", "round": 0, "federated": federated(0.5, 0.5)}
    events = finished()
    page = report(tmp_path, [*events[:2], first, *events[2:]], {"federated": federated(0.9, 0.8)})
    assert gained(page)[0] == ["zero-shot AUC", "round 0", "final model", "change"]
    assert gained(page)[2] == ["all sites", "0.500", "0.900", "+0.400"]
    assert "not of the same sites" not in page
    assert "Round 0 is not known here" not in page


def test_one_evaluation_shows_no_gain_and_says_why(tmp_path: Path) -> None:
    events = [event for event in finished() if event.get("round") != 2]
    page = report(tmp_path, events, {"federated": federated(0.9, 0.8)})
    assert gained(page)[0] == ["zero-shot AUC", "final model"]
    assert gained(page)[2] == ["all sites", "0.900"]
    assert "The run has one evaluation; federation.evaluate_every asks for earlier ones." in page


def test_evaluations_that_stay_at_the_sites_have_no_gain(tmp_path: Path) -> None:
    page = report(tmp_path, finished()[:4], {"federated": {}})
    assert "What the hospitals gained" not in page
    reason = "sites under patient-level privacy keep their evaluations"
    none = {"auc": None, "balanced_accuracy": None, "classes": {}, "reason": reason}
    private = {"zero_shot": {"density": none, "suspicious": none}}
    events = [event for event in finished() if event.get("round") != 2]
    page = report(tmp_path, events, {"federated": private})
    assert gained(page)[2] == [f"all sites Not measured: {reason}.", "–"]
    assert "federation.evaluate_every asks" not in page


def test_the_gain_of_a_stopped_run_is_that_of_its_last_evaluation(tmp_path: Path) -> None:
    second = {"event": "evaluation", "round": 3, "federated": federated(0.8, 0.7)}
    events = [*finished()[:6], second, {"event": "stopped", "reason": "round 4"}]
    page = report(tmp_path, events, {}, status="stopped")
    assert gained(page)[0] == ["zero-shot AUC", "after round 2", "after round 3", "change"]
    assert gained(page)[-2] == ["a", "0.600", "0.700", "+0.100"]
