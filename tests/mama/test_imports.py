"""The method on a machine that has neither Flower nor GDCM nor Opacus."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# They compute with Opacus.
USE_OPACUS = {"accounting", "optimiser", "plan", "training"}

CODE = """
import importlib, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("flwr", "gdcm", "opacus"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
for name in sys.argv[1:]:
    importlib.import_module(name)
assert not {"flwr", "gdcm", "opacus"} & {name.split(".")[0] for name in sys.modules}
"""


def test_all_but_private_training_needs_none_of_them() -> None:
    names = []
    for path in sorted((ROOT / "mama").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[1] != "privacy" or parts[-1] not in USE_OPACUS:
            names.append(".".join(parts).removesuffix(".__init__"))
    assert len(names) > 100
    ended = subprocess.run(
        [sys.executable, "-c", CODE, *names], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
