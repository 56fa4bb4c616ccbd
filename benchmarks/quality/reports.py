"""Accuracy of the reading of reports on hand-labelled ones, and recall of planted identifiers.

    python -m benchmarks.quality.reports [--labelled FILE ...] [--planted 400]

Prints the share of labelled sentences with the right breast, of reports with the right BI-RADS
categories and density, and of planted identifiers that redaction removes.
"""

import argparse
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from benchmarks.common import last_line
from benchmarks.quality.planted_reports import planted_report
from mama.data.reports.formats import plain
from mama.data.reports.identifiers import redact
from mama.data.reports.language import codes, load_language, recognise
from mama.data.reports.read import ReadReport, read_report

FOLDER = Path(__file__).parents[2] / "tests" / "mama" / "data" / "reports"
SIDES = {"L": "L", "R": "R", "both": "both", "none": None}


def read_labelled(report: dict[str, Any]) -> ReadReport:
    """Read a labelled report as ingest does, in the language that is recognised."""
    text = plain(report["text"])
    code = recognise(text)
    return read_report(text, load_language(code) if code in codes() else None)


def score(report: dict[str, Any]) -> tuple[Counter[str], list[str]]:
    """Return the counts of right and of all answers by kind, and the wrong ones in words."""
    read = read_labelled(report)
    counts: Counter[str] = Counter()
    wrong = []

    def count(kind: str, right: bool, answer: str) -> None:
        counts[kind] += 1
        counts[f"{kind} right"] += right
        if not right:
            wrong.append(f"{kind}: {answer}")

    for label, side in SIDES.items():
        for part in report.get(label, ()):
            found = [s.side for s in read.sentences if part in s.text]
            count("side", found == [side], f"{part!r} is {label}, read {found}")
    for part in report.get("dropped", ()):
        kept = [s.text for s in read.sentences if part in s.text]
        count("dropped", not kept, f"{part!r} is kept")
    if "density" in report:
        count("density", read.density == report["density"], f"{report['density']}: {read.density}")
    if "study" in report:
        right = read.study_birads == report["study"]
        count("birads", right, f"exam {report['study']}: {read.study_birads}")
    if "birads" in report:
        right = read.birads == report["birads"]
        count("birads", right, f"breasts {report['birads']}: {read.birads}")
    expected = tuple(report.get("conflicts", ()))
    count("conflicts", read.conflicts == expected, f"{expected}: {read.conflicts}")
    return counts, wrong


def score_file(path: Path) -> tuple[dict[str, float], list[str]]:
    """Return the shares of right answers on the reports of a file, and the wrong answers."""
    total: Counter[str] = Counter()
    wrong = []
    for number, report in enumerate(yaml.safe_load(path.read_text(encoding="utf-8"))):
        counts, misses = score(report)
        total += counts
        wrong += [f"{path.name} {number}: {miss}" for miss in misses]
    kinds = [kind for kind in total if not kind.endswith(" right")]
    return {kind: total[f"{kind} right"] / total[kind] for kind in kinds}, wrong


def recall(reports: int) -> tuple[float, list[str]]:
    """Return the share of planted identifiers that redaction removes, and the lines with others."""
    planted = missed = 0
    lines = []
    for seed in range(reports):
        report = planted_report(seed)
        clean = redact(report.text, language="en").text
        for identifier in report.identifiers:
            planted += 1
            if re.search(rf"(?<!\w){re.escape(identifier)}(?!\w)", clean):
                missed += 1
                lines += [line for line in clean.split("\n") if identifier in line][:1]
    return 1 - missed / planted, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--labelled", type=Path, nargs="+", default=sorted(FOLDER.glob("lab*.yaml"))
    )
    parser.add_argument("--planted", type=int, default=400)
    options = parser.parse_args()
    result: dict[str, Any] = {}
    for path in options.labelled:
        started = time.process_time()
        shares, wrong = score_file(path)
        result[path.stem] = shares
        print(f"{path.name}: {time.process_time() - started:.2f} CPU-s")
        for kind, share in shares.items():
            print(f"  {kind:<12}{share:.3f}")
        print("".join(f"  {line}\n" for line in wrong), end="")
    result["recall"], lines = recall(options.planted)
    print(f"identifiers removed: {result['recall']:.4f} of those in {options.planted} reports")
    print("".join(f"  {line}\n" for line in lines), end="")
    last_line(result)


if __name__ == "__main__":
    main()
