"""Hand-labelled reports are read as a reader would: sides, BI-RADS, density, what is dropped."""

from pathlib import Path

import pytest
import yaml

from benchmarks.quality.reports import score_file

FILES = sorted(Path(__file__).parent.glob("labelled*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_labelled_reports_are_read_right(path: Path):
    shares, wrong = score_file(path)
    assert shares["side"] >= 0.98, wrong
    assert min(shares["birads"], shares["density"]) >= 0.99, wrong
    assert shares["conflicts"] >= 0.98, wrong


def test_the_labels_are_many():
    reports = [report for path in FILES for report in yaml.safe_load(path.read_text("utf-8"))]
    labels = [
        part for r in reports for side in ("L", "R", "both", "none") for part in r.get(side, [])
    ]
    assert len(reports) >= 40
    assert len(labels) >= 150
    assert {r.get("language") for r in reports} >= {"de", "es", "fr", "it", "nl", "pt", "zh", None}
