"""The house as a whole: files, configurations, documents and the rules of who may import whom."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mama.errors
from mama.config import Experiment
from mama.config.load import load
from mama.exchange.codes import SENTENCES, ErrorCode
from sim.config import SimulatedExperiment

ROOT = Path(__file__).parents[1]
PACKAGES = ("mama", "client", "server", "sim", "configs", "benchmarks", "tests", "docs")
LONGEST = {".py": 300}  # lines; others 400
ENTRIES = {"mama": 14, "client": 14, "server": 12, "sim": 10, "benchmarks": 8}
MOST_ENTRIES = 14  # of a package
SIMULATED = {"quickstart.yaml", "mias.yaml", "own_data.yaml", "private.yaml"}
EXPERIMENTS = {"mama_vitb.yaml", "mama_vitb_288.yaml"}
# tests/client/site/test_config.py, tests/server/aggregation/test_examples.py
OTHERS = {"site.example.yaml", "strategies.yaml"}


def ours() -> list[Path]:
    kinds = (".py", ".yaml", ".j2", ".md")
    files = [p for folder in PACKAGES for p in (ROOT / folder).rglob("*") if p.suffix in kinds]
    return [*files, *ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "pyproject.toml"]


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_no_file_is_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in ours()}
    assert len(lengths) > 50
    long = {path: n for path, n in lengths.items() if n > LONGEST.get(path.suffix, 400)}
    assert {path: n for path, n in long.items() if "tests" not in path.parts or n > 400} == {}


def test_no_room_is_crowded() -> None:
    def entries(folder: Path) -> int:
        return sum(path.suffix in (".py", ".j2") or path.is_dir() for path in visible(folder))

    def visible(folder: Path) -> list[Path]:
        return [path for path in folder.iterdir() if path.name != "__pycache__"]

    for room, most in ENTRIES.items():
        assert entries(ROOT / room) <= most, room
        packages = [path for path in (ROOT / room).rglob("*") if path.is_dir()]
        crowded = [p for p in packages if p.name != "__pycache__" and entries(p) > MOST_ENTRIES]
        assert crowded == []


def test_no_docstring_of_python_opens_with_a_question_word() -> None:
    asking = re.compile(r"(What|Who|How|Where|Which|Whose|Whether|Why)\b")
    found = []
    for room in ENTRIES:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                kinds = ast.Module | ast.FunctionDef | ast.ClassDef
                if isinstance(node, kinds) and asking.match(ast.get_docstring(node) or ""):
                    found.append(f"{path.relative_to(ROOT)}: {getattr(node, 'name', '')}")
    assert found == []


def test_every_configuration_loads() -> None:
    found = {path.name for path in (ROOT / "configs").glob("*.yaml")}
    assert found == SIMULATED | EXPERIMENTS | OTHERS
    for name in sorted(SIMULATED):
        config = load(SimulatedExperiment, ROOT / "configs" / name)
        assert config.name == name.removesuffix(".yaml")
        assert "simulation" not in config.experiment().canonical_json()
    for name in sorted(EXPERIMENTS):
        load(Experiment, ROOT / "configs" / name)


def test_the_readmes_commands_exist() -> None:
    blocks = re.findall(r"```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    words = [
        part.split()
        for block in blocks
        for line in block.splitlines()
        for part in line.split("#")[0].split("&&")
    ]
    commands = [line for line in words if line and re.fullmatch(r"make|pip|mama[a-z-]*", line[0])]
    scripts = pyproject()["project"]["scripts"]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"make demo", "make test"} <= {" ".join(line[:2]) for line in commands}
    for line in commands:
        if line[0] == "make":
            assert line[1] in targets
        elif line[0].startswith("mama"):
            assert line[0] in scripts
            for name in line:
                if name.startswith("configs/"):
                    assert (ROOT / name).is_file()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_links_to_our_files_lead_somewhere(document: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / document).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("script", ["mama", "mama-site", "mama-server", "mama-sim"])
def test_console_scripts_say_what_they_are_without_loading_torch(script: str) -> None:
    module, _, function = pyproject()["project"]["scripts"][script].partition(":")
    code = (
        f"import sys; sys.argv = ['{script}', '--help']\n"
        f"from {module} import {function}\n"
        f"try: {function}()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "Usage: " in ended.stdout


def test_every_error_code_is_explained() -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", text, re.MULTILINE))
    assert rows == {str(code): code.sentence for code in ErrorCode}
    assert set(SENTENCES) == set(ErrorCode)


def test_every_exit_code_is_explained() -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    rows = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    kinds = [
        kind
        for kind in vars(mama.errors).values()
        if isinstance(kind, type) and issubclass(kind, mama.errors.MamaError)
    ]
    assert {kind.exit_code for kind in kinds} | {130} == rows
    # One code a kind: only an error that is a special case of another shares it.
    codes: dict[int, list[type]] = {}
    for kind in kinds:
        codes.setdefault(kind.exit_code, []).append(kind)
    for shared in codes.values():
        assert all(issubclass(kind, shared[0]) for kind in shared)


def test_the_server_loads_no_tower() -> None:
    code = (
        "import sys, server.app\n"
        "heavy = {'timm', 'transformers', 'peft', 'pydicom', 'mama.model', 'mama.data.pairs'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_import_rules_hold() -> None:
    script = Path(sys.executable).with_name("lint-imports")
    ended = subprocess.run([script, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 broken" in ended.stdout
