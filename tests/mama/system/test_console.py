"""Terminal output fits into 80 columns, always in the same order."""

import io

import pytest
from rich.console import Console

from mama.system.console import TrainingLines, print_figures

FIGURES = {"auc": 0.8125, "balanced_accuracy": 0.75, "n": 9, "classes": {"no": 6, "yes": 3}}


@pytest.mark.parametrize("total", [5, 40_000, 999_999])
def test_lines_of_training_stand_below_their_headings(total: int) -> None:
    lines: list[str] = []
    training = TrainingLines(total, lines.append)
    training.begin(0)
    training.step(1, {"local": 1.5, "loss": 12.25, "image_text": 8.0, "effective_rank": 3.0})
    training.step(total, {"loss": 2.25, "recall_at_1": 0.5, "image_image": 123.4})
    headings, first, last = lines
    assert len(headings) == len(first) == len(last) < 80
    assert first.split()[:7] == [f"1/{total}", "12.250", "8.000", "-", "-", "1.500", "-"]
    assert last.split()[:7] == [f"{total}/{total}", "2.250", "-", "-", "123.400", "-", "0.500"]
    assert last.split()[-2:] == ["0:00:00", "0:00:00"]
    assert headings.index("loss") + len("loss") == first.index("12.250") + len("12.250")


def test_time_left_counts_from_where_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0])
    monkeypatch.setattr("mama.system.console.time.monotonic", lambda: next(clock))
    lines: list[str] = []
    training = TrainingLines(1000, lines.append)
    training.begin(600)
    training.step(601, {})
    assert lines[0] == "continuing at step 601 of 1000"
    assert lines[-1].split()[-2:] == ["0:00:10", "1:06:30"]  # 399 steps of ten seconds


def printed(evaluation: dict) -> list[str]:
    out = io.StringIO()
    print_figures(Console(file=out, width=80), "9 test studies", evaluation)
    return out.getvalue().splitlines()


def test_the_table_of_an_outcome() -> None:
    four = FIGURES | {"classes": dict.fromkeys("ABCD", 105)}
    lines = printed({m: {"density": four, "suspicious": FIGURES} for m in ("zero_shot", "probe")})
    assert max(map(len, lines)) < 80
    assert lines[0] == "9 test studies"
    assert sum("105 A, 105 B, 105 C, 105 D" in line for line in lines) == 2
    (row,) = [line for line in lines if "zero shot suspicious" in line]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "zero shot suspicious", "0.812", "0.750", "6 no, 3 yes",
    ]  # fmt: skip
    assert not lines[-1].startswith("-")


def test_a_dash_is_explained_below() -> None:
    nothing = {"auc": None, "balanced_accuracy": None, "classes": {}, "reason": "no labels"}
    lines = printed({"zero_shot": {"density": nothing, "suspicious": FIGURES}})
    (row,) = [line for line in lines if "│ zero shot density" in line]
    assert [cell.strip() for cell in row.split("│")[2:-1]] == ["-", "-", "none"]
    assert lines[-1] == "- zero shot density: no labels"
