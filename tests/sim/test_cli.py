"""`mama-sim run`: every mistake is one line and an exit code, and what is done is kept."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mama.config.load import load
from mama.data.manifest import Dataset, write_manifest
from server.run.events import Event, RoundDone
from sim import run as simulation
from sim.cli import main
from sim.config import SimulatedExperiment
from sim.progress import Display
from sim.sites import make_sites

ROOT = Path(__file__).parents[2]
QUICKSTART, MIAS = ROOT / "configs" / "quickstart.yaml", ROOT / "configs" / "mias.yaml"
SMALL = [
    "image.options={patch_size: 4, embed_dim: 32, depth: 1, num_heads: 2}",
    "text.layers=1",
    "heads={embedding: 32, view_hidden: 32, local_hidden: 32}",
    "federation={rounds: 1, local_steps: 1}",
    "participation.quorum=2",
    "simulation.test_fraction=0.4",
]


def small(*more: str) -> list[str]:
    return [part for override in (*SMALL, *more) for part in ("--set", override)]


@pytest.fixture
def refusal(command: Callable[..., Any]) -> Callable[..., tuple[int, str]]:
    """Exit code and the one line of a run that cannot be."""

    def run(*arguments: object) -> tuple[int, str]:
        ended = command(main, "run", *arguments)
        assert ended.out == ""
        assert ended.err.count("\n") == 1, ended.err
        assert ended.err.startswith("error: ")
        return ended.code, ended.err.strip()

    return run


def test_the_whole_experiment_is_printed_as_yaml_that_loads_again(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    for config in (QUICKSTART, MIAS):
        ended = command(main, "run", config, "--dry-run", "--seed", 5, "--set", "optimiser.lr=0.01")
        assert (ended.code, ended.err) == (0, "")
        (tmp_path / "printed.yaml").write_text(ended.out)
        printed = load(SimulatedExperiment, tmp_path / "printed.yaml")
        assert printed == load(SimulatedExperiment, config, ["seed=5", "optimiser.lr=0.01"])
        assert yaml.safe_load(ended.out)["augment"]["second_view_probability"] == 0.5  # a default
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("federation.round=1", "unknown key 'federation.round'. Did you mean 'rounds'?"),
        ("federation.rounds=many", "key 'federation.rounds': must be a whole number"),
        ("seed=-1", "error: --set seed=-1: key 'seed': must be at least 0"),
        ("simulation.sits=3", "unknown key"),
        ("optimiser.lr", "--set optimiser.lr: is not of the form a.b=value"),
        ("=3", "--set =3: is not of the form a.b=value"),
        ("seed.a=3", "--set seed.a=3: 'seed' is a value, not a section"),
        ("seed=[", "--set seed=[: has a value that is not YAML"),
    ],
)
def test_a_wrong_override(refusal: Callable[..., Any], override: str, message: str) -> None:
    code, line = refusal(QUICKSTART, "--set", override)
    assert code == 2
    assert message in line


def test_a_wrong_key_in_the_file(refusal: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(QUICKSTART.read_text().replace("optimiser:", "optimizer:"))
    code, line = refusal(path)
    assert code == 2
    assert f"{path}: unknown key 'optimizer'. Did you mean 'optimiser'?" in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file. Give the path of a YAML file"),
        ("a: [", "is not YAML: line"),
        ("- a\n", "is not a mapping of keys to values"),
    ],
)
def test_a_file_that_is_none(
    refusal: Callable[..., Any], tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "missing.yaml"
    if text is not None:
        path.write_text(text)
    code, line = refusal(path, "--out", tmp_path / "out")
    assert code == 2
    assert line.startswith(f"error: {path}: {message}")
    assert not (tmp_path / "out").exists()


def test_data_that_is_missing_or_not_wanted(
    refusal: Callable[..., Any], make_films: Callable[..., Path], tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "out")
    code, line = refusal(MIAS, *out)
    assert (code, "--data: the simulation mias needs a dataset" in line) == (2, True)
    code, line = refusal(QUICKSTART, "--data", make_films(), *out)
    assert (code, "the simulation quickstart generates the hospitals' data itself" in line) == (
        2,
        True,
    )
    code, line = refusal(MIAS, "--data", tmp_path / "nowhere", *out)
    assert code == 3
    assert f"--data {tmp_path / 'nowhere'}: no such folder" in line
    (tmp_path / "empty").mkdir()
    code, line = refusal(MIAS, "--data", tmp_path / "empty", *out)
    assert code == 3
    assert f"{tmp_path / 'empty'}: holds no ingested dataset, and read as mias: no studies" in line
    assert not (tmp_path / "out").exists()


def test_an_unknown_code_in_the_label_table(
    refusal: Callable[..., Any], make_films: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_films()
    table = data / "labels"
    table.write_text(table.read_text().replace("mdb005 D NORM", "mdb005 X NORM"))
    code, line = refusal(MIAS, "--data", data, "--out", tmp_path / "out")
    assert code == 3
    assert f"{table}, line 5, column 'tissue': unknown or missing code. Use one of F, G, D" in line


def test_too_few_patients_for_the_hospitals(
    refusal: Callable[..., Any], make_films: Callable[..., Path], tmp_path: Path
) -> None:
    code, line = refusal(
        MIAS, "--data", make_films(patients=2), "--out", tmp_path / "out", "--quiet"
    )
    assert code == 3
    assert line.startswith("error: simulation.sites: ")
    assert "patients to train on are too few for 3 hospitals" in line


def test_a_small_run_from_the_command_line(
    command: Callable[..., Any], make_films: Callable[..., Path], tmp_path: Path
) -> None:
    """Real films' config on drawn ones: a run, what it prints, and the same command again."""
    out = tmp_path / "out"
    arguments = ["run", MIAS, "--data", make_films(patients=9), "--out", out, *small()]
    ended = command(main, *arguments)
    assert ended.code == 0, ended.err
    assert "mias: finished after 1 round" in ended.out
    assert f"report: {out / 'report.html'}" in ended.out
    assert f"model:  {out / 'final'}" in ended.out
    for news in (
        "data: images: 18/18",
        "dealing patients: 3/3",
        "sites: site-1, site-2, site-3",
        "round   1 ",
    ):
        assert news in ended.err
    assert "\x1b" not in ended.out + ended.err  # not a terminal
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["status"], metrics["rounds"]) == ("finished", 1)

    assert f"sites:  {out / 'sites' / 'NAME' / 'site_report.html'}" in ended.out

    before = {path: path.read_bytes() for path in out.glob("*.*")}
    again = command(main, *arguments, "--quiet")
    assert (again.code, again.err, again.out) == (0, "", ended.out)
    repeated = command(main, *arguments)
    assert "this run is finished; nothing to do" in repeated.err
    assert {path: path.read_bytes() for path in out.glob("*.*")} == before


def test_a_stopped_run_says_where_it_continues(
    command: Callable[..., Any],
    make_films: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overrides = small("federation.rounds=2")
    data, out = make_films(patients=9), tmp_path / "out"
    arguments = ["run", MIAS, "--data", data, "--out", out, *overrides]

    def stop(event: Event) -> None:
        if isinstance(event, RoundDone):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Display, "_event", lambda self, event: stop(event))
        assert command(main, *arguments, "--quiet").code == 130
    shutil.rmtree(out / "checkpoints" / "round-0001", ignore_errors=True)
    ended = command(main, *arguments)
    assert ended.code == 0, ended.err
    assert "continuing at" not in ended.err  # no round was whole
    (out / "metrics.json").unlink()
    shutil.rmtree(out / "checkpoints" / "round-0002")
    ended = command(main, *arguments)
    assert ended.code == 0, ended.err
    assert "continuing at round 2 of 2" in ended.err


def test_a_folder_of_other_things_is_left_alone(
    refusal: Callable[..., Any], make_films: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").touch()
    code, line = refusal(MIAS, "--data", make_films(), "--out", out)
    assert (code, "contains other files (thesis.tex)" in line) == (2, True)
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_an_experiment_without_hospitals_is_for_mama_train(refusal: Callable[..., Any]) -> None:
    code, line = refusal(ROOT / "configs" / "mama_vitb.yaml")
    assert (code, "Train it on one dataset with `mama train`" in line) == (2, True)


@pytest.mark.parametrize("name", ["quickstart", "quikstart.yaml", "configs/quickstrat.yaml"])
def test_a_name_that_is_nearly_right(refusal: Callable[..., Any], name: str) -> None:
    code, line = refusal(name)
    assert code == 2
    assert line == f"error: {name}: no such file. Did you mean configs/quickstart.yaml?"


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_batch_norm_is_refused_before_anything_is_made(
    refusal: Callable[..., Any], tmp_path: Path, more: tuple[str, ...]
) -> None:
    override = ("--set", "heads.norm=batch")
    code, line = refusal(QUICKSTART, *override, "--out", tmp_path / "out", *more)
    assert code == 2
    assert line.startswith("error: --set heads.norm=batch: ")
    assert "cannot be averaged over sites" in line
    assert not (tmp_path / "out").exists()


def test_an_epsilon_that_no_noise_reaches_is_refused_before_anything_is_made(
    refusal: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, line = refusal(
        QUICKSTART, "--out", out, "--set", "privacy={mode: patient, epsilon: 1.0e-9}",
        "--set", "federation.evaluate_every=0",
    )  # fmt: skip
    assert code == 2
    assert "privacy.epsilon: the accountant (RDP, orders to 2048) cannot prove" in line
    assert not out.exists()


def test_fewer_sites_than_the_quorum(
    command: Callable[..., Any], make_films: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    overrides = small("participation.quorum=5")
    data = make_films(patients=9)
    ended = command(main, "run", MIAS, "--data", data, "--out", out, "--quiet", *overrides)
    assert ended.code == 6
    assert ended.err.startswith("error: start: 3 of at least 5 sites answered. ")
    assert ended.err.count("\n") == 1
    assert json.loads((out / "metrics.json").read_text())["status"] == "stopped"
    assert (out / "report.html").is_file()
    assert (out / "checkpoints" / "round-0000" / "model.safetensors").is_file()
    assert not (out / "final").exists()


def test_a_site_that_has_nothing_to_train_on_is_reported_and_left_out(
    make_films: Callable[..., Path], tmp_path: Path
) -> None:
    """One site has a single training patient, another has none."""
    config = load(SimulatedExperiment, MIAS, [*SMALL, "participation.quorum=1"])
    sites = make_sites(config, tmp_path, make_films(patients=9), lambda *_: None)
    for name, kept in (("site-2", 1), ("site-3", 0)):
        dataset = Dataset(sites.files[name].parent / "dataset")
        studies = [
            study.model_copy(update={"split": "train" if number < kept else "test"})
            for number, study in enumerate(dataset.manifest.studies)
        ]
        changes = {"studies": tuple(studies)}
        write_manifest(dataset.folder, dataset.manifest.model_copy(update=changes))
    files = list(sites.files.values())
    metrics = simulation.federate(config.experiment(), files, tmp_path / "run")
    problems = {problem["site"]: problem["code"] for problem in metrics["problems"]}
    assert problems == {"site-2": "no_contrast", "site-3": "no_studies"}
    assert metrics["sites"] == ["site-1", "site-2"]


@pytest.mark.parametrize("option", [("--seed", "3"), ("--set", "simulation.sites=2")])
def test_a_folder_with_another_run_is_left_as_it_is(
    refusal: Callable[..., Any],
    command: Callable[..., Any],
    make_films: Callable[..., Path],
    tmp_path: Path,
    option: tuple[str, str],
) -> None:
    out = tmp_path / "out"
    overrides = small("participation.quorum=9")  # stops before it trains
    arguments = [MIAS, "--data", make_films(patients=9), "--out", out, "--quiet", *overrides]
    assert command(main, "run", *arguments).code == 6
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    code, line = refusal(*arguments, *option)
    assert code == 2
    difference = {
        "--seed": "seed is 0 there and 3 here",
        "--set": "simulation.sites is 3 there and",
    }
    assert f"{out}: holds another simulation: {difference[option[0]]}" in line
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_ctrl_c_is_one_line(
    command: Callable[..., Any],
    make_films: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(simulation, "federate", interrupted)
    ended = command(main, "run", MIAS, "--data", make_films(), "--out", tmp_path / "out", "--quiet")
    assert (ended.code, ended.out) == (130, "")
    assert ended.err == "stopped; run the same command again to continue\n"


def test_a_run_without_out_has_a_folder_of_its_own(
    command: Callable[..., Any],
    make_films: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other hospitals are another run, although the experiment is the same."""
    data = make_films(patients=9)
    monkeypatch.chdir(tmp_path)
    for sites in (3, 2):
        overrides = small("participation.quorum=9", f"simulation.sites={sites}")
        assert command(main, "run", MIAS, "--data", data, "--quiet", *overrides).code == 6
    assert len(list((tmp_path / "runs").glob("mias-*"))) == 2


def test_ingests_remarks_are_reported(
    command: Callable[..., Any], make_films: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_films(patients=9)
    (data / "png" / "mdb003.png").write_bytes(b"no picture")
    overrides = small("participation.quorum=9")
    ended = command(main, "run", MIAS, "--data", data, "--out", tmp_path / "out", *overrides)
    remarks = [line for line in ended.err.splitlines() if "left out" in line]
    assert len(remarks) == 1
    assert remarks[0] == "data: 1 file left out: unreadable (1)"
