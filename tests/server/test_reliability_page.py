"""docs/reliability.md names a test for each fault, and every event."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def test_every_row_names_a_test_that_exists() -> None:
    rows = re.findall(r"^\|.*\| `(test_\w+)` \(((?:\w+/)?test_\w+\.py)\) \|$", PAGE, re.M)
    assert len(rows) > 15
    for name, file in rows:
        trees = [ast.parse(path.read_text()) for path in (ROOT / "tests").rglob(file)]
        nodes = [node for tree in trees for node in tree.body]
        assert name in {node.name for node in nodes if isinstance(node, ast.FunctionDef)}, name


def test_every_event_is_in_the_table() -> None:
    source = "".join((ROOT / "server" / n).read_text() for n in ("rounds.py", "sites.py"))
    told = set(re.findall(r'tell\(\s*"(\w+)"', source)) | {"answered_late", "answered_again"}
    assert told <= set(re.findall(r"^\| `(\w+)` \|", PAGE, re.M))
    assert len(told) > 10
