"""docs/reliability.md names a test for each fault, and the table of events is generated."""

import ast
import re
from pathlib import Path

from docs.make_events import table

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def test_every_row_names_a_test_that_exists() -> None:
    rows = re.findall(r"^\|.*\| `(test_\w+)` \(((?:\w+/)?test_\w+\.py)\) \|$", PAGE, re.M)
    assert len(rows) > 15
    for name, file in rows:
        trees = [ast.parse(path.read_text()) for path in (ROOT / "tests").rglob(file)]
        nodes = [node for tree in trees for node in tree.body]
        assert name in {node.name for node in nodes if isinstance(node, ast.FunctionDef)}, name


def test_the_table_of_events_is_made_from_their_classes() -> None:
    assert table() in PAGE
