"""Collect the wheels that `mama` needs beyond torch's own stack, for a GPU machine without network.

    python -m benchmarks.gpu.wheels FOLDER [--python 3.12] [--machine x86_64]

The machine is assumed to have torch, timm, transformers, peft, scipy, scikit-learn, hypothesis and
pytest with xdist and timeout. The versions are those installed here. There, the folder is installed
without an index, and the checkout made importable (Opacus has a `benchmarks` package, too, so that
PYTHONPATH alone will not do):

    pip install --no-index --no-deps FOLDER/*.whl
    pwd > $(python -c 'import site; print(site.getsitepackages()[0])')/aa_fedmama.pth
"""

import argparse
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

NEEDED = (
    "annotated-types",
    "cffi",
    "cryptography",
    "opacus",
    "opt-einsum",
    "pycparser",
    "pydantic",
    "pydantic-core",
    "pydicom",
    "typing-inspection",
)
GLIBC = (17, 27, 28, 34)
LIMIT_MIB = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12")
    parser.add_argument("--machine", default="x86_64")
    options = parser.parse_args()
    collect(options.folder, options.python, options.machine)
    total = size_mib(options.folder)
    print(f"{len(list(options.folder.glob('*.whl')))} wheels, {total:.1f} MiB")
    if total > LIMIT_MIB:
        sys.exit(f"error: {options.folder}: more than {LIMIT_MIB} MiB. Leave packages out")


def collect(folder: Path, python: str, machine: str) -> None:
    """Download the wheels into the folder."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC] + [f"manylinux2014_{machine}"]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"),
            *("--python-version", python, "--implementation", "cp", "-d", str(folder)),
            *(part for name in platforms for part in ("--platform", name)),
            *(f"{name}=={version(name)}" for name in NEEDED),
        ],
        check=True,
    )


def size_mib(folder: Path) -> float:
    """Return the size of the folder's wheels."""
    return sum(path.stat().st_size for path in folder.glob("*.whl")) / 2**20


if __name__ == "__main__":
    main()
