"""Hospital's gain table: figures as by hand, without patients who withdrew."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from client.cli import main
from client.report.page import write_site_report
from client.site.config import SiteFile
from client.site.final_models import FinalModel, keep
from client.training.strategy import LocalMethod
from mama.config import Experiment
from mama.data.ingest.ids import ids_of
from mama.data.manifest import Dataset, Manifest, write_manifest
from mama.data.studies import Study
from mama.errors import ConfigError, ModelError
from mama.evaluation.bootstrap import Estimate, Scored
from mama.evaluation.evaluate import answers
from mama.exchange.fingerprint import trained_fingerprint
from mama.exchange.metrics import LABELS, Label
from mama.exchange.tensors import local_tensors
from mama.final.saved import save_final
from mama.model import MaMA, build_model
from mama.system.sealed import write_sealed
from mama.system.tensors import save_tensors
from tests.client.report.test_page import EXPERIMENT, make_site, make_study

RUN = "run-7"
WORDS = {"density": "Breast density", "suspicious": "Suspicious lesion"}


def studies() -> list[Study]:
    return [make_study(n, "train") for n in range(2)] + [
        make_study(n, "test", suspicious=n % 2 == 0, density="AB"[n // 2 % 2]) for n in range(2, 26)
    ]


def other(experiment: Experiment, seed: int) -> MaMA:
    """A model that another training of the experiment might have given."""
    model = build_model(experiment)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and name.startswith("image"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def kept_run(site: SiteFile, experiment: Experiment = EXPERIMENT, given: bool = False) -> Path:
    """The folder of a run that ended at the site, which has checked the run's first model."""
    folder = site.run_folder(RUN)
    record = FinalModel(run=RUN, experiment="small", rounds=2, model="0" * 64, finished="now")
    keep(folder / "final", other(experiment, 1), experiment, record)
    write_sealed(folder / "lineage.json", {"models": {"0": "1" * 64}, "given": given})
    return folder


@pytest.fixture
def site(tmp_path: Path) -> SiteFile:
    return make_site(tmp_path, studies())


def scored(site: SiteFile, model: MaMA, folder: Path) -> dict[Label, Scored]:
    """A model's answers by the way of `mama evaluate`."""
    save_final(folder, model, EXPERIMENT)
    found = answers(folder, Dataset(site.data.dataset))
    return {label: Scored(predictions) for label, predictions in found.items()}


def rows(page: Path) -> dict[str, dict[str, str]]:
    """The cells of the table by task and row."""
    text = page.read_text(encoding="utf-8")
    table = re.search(r'<table class="gain">(.*?)</table>', text, re.DOTALL)
    assert table
    found = {}
    for body in re.findall(r"<tbody>(.*?)</tbody>", table[1], re.DOTALL):
        title = re.search(r"<strong>(.*?)</strong>", body)[1]  # type: ignore[index]
        lines = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', body, re.DOTALL)
        found[title] = {name: " ".join(re.sub("<[^>]+>", " ", c).split()) for name, c in lines}
    return found


def cell(figure: Estimate | None, form: str = "%.3f") -> str:
    assert figure
    assert None not in figure
    return f"{form % figure.value} {form % figure.low} to {form % figure.high}"


def test_figures_are_those_of_predictions_made_by_hand(site: SiteFile, tmp_path: Path) -> None:
    page = write_site_report(site, kept_run(site), tmp_path / "r.html")
    first = scored(site, build_model(EXPERIMENT), tmp_path / "first")
    last = scored(site, other(EXPERIMENT, 1), tmp_path / "last")
    found = rows(page)
    for label in LABELS:
        assert found[WORDS[label]] == {
            "round 0": cell(first[label].estimate()),
            "final model": cell(last[label].estimate()),
            "final model − round 0": cell(last[label].gain_over(first[label]), "%+.3f"),
        }
        assert first[label].values != last[label].values
    assert "did not check" not in page.read_text(encoding="utf-8")


def test_a_model_of_the_sites_own_is_compared_too(site: SiteFile, tmp_path: Path) -> None:
    own = tmp_path / "alone"
    save_final(own / "final", other(EXPERIMENT, 2), EXPERIMENT)
    page = write_site_report(site, kept_run(site), tmp_path / "r.html", own)
    local = scored(site, other(EXPERIMENT, 2), tmp_path / "own")
    last = scored(site, other(EXPERIMENT, 1), tmp_path / "last")
    for label in LABELS:
        found = rows(page)[WORDS[label]]
        assert found["own model"] == cell(local[label].estimate())
        assert found["final model − own model"] == cell(
            last[label].gain_over(local[label]), "%+.3f"
        )
    steps = EXPERIMENT.total_steps
    sentence = f"The own model took {steps} steps, each site of the run up to {steps}."
    assert sentence in page.read_text(encoding="utf-8")


def test_an_own_model_of_another_experiment_says_what_differs(
    site: SiteFile, tmp_path: Path
) -> None:
    longer = changed(federation={"rounds": 3, "local_steps": 5})
    save_final(tmp_path / "alone", other(longer, 2), longer)
    page = write_site_report(site, kept_run(site), tmp_path / "r.html", tmp_path / "alone")
    text = page.read_text(encoding="utf-8")
    assert "The own model took 15 steps" in text
    assert "their experiments differ in: federation." in text


def changed(**values: Any) -> Experiment:
    return Experiment.model_validate(EXPERIMENT.model_dump(mode="json") | values)


def test_what_cannot_be_compared_is_refused(site: SiteFile, tmp_path: Path) -> None:
    run = kept_run(site)
    prompts = changed(
        evaluation={**EXPERIMENT.evaluation.model_dump(), "suspicious": {"no": ["a"], "yes": ["b"]}}
    )
    save_final(tmp_path / "prompts", build_model(prompts), prompts)
    with pytest.raises(ConfigError, match="other prompts"):
        write_site_report(site, run, tmp_path / "r.html", tmp_path / "prompts")
    wide = changed(heads={"embedding": 8, "view_hidden": 16, "local_hidden": 16})
    save_final(tmp_path / "wide", build_model(wide), wide)
    with pytest.raises(ModelError, match=r"its heads\.embedding is 8"):
        write_site_report(site, run, tmp_path / "r.html", tmp_path / "wide")
    with pytest.raises(ModelError, match="holds no model"):
        write_site_report(site, run, tmp_path / "r.html", tmp_path / "nothing")
    assert not (tmp_path / "r.html").exists()


def test_nobody_who_withdrew_is_in_the_table(site: SiteFile, tmp_path: Path) -> None:
    run = kept_run(site)
    key = site.read_secret()
    # The site's list has names as in the source; the dataset's pseudonyms are made of them.
    named = [study.model_copy(update={"patient": min(ids_of(key, s))}) for study in studies()
             for s in [study.patient]]  # fmt: skip
    manifest = Dataset(site.data.dataset).manifest
    write_manifest(site.data.dataset, manifest.model_copy(update={"studies": tuple(named)}))
    gone = [f"patient{n:02}" for n in range(2, 8)]
    (tmp_path / "withdrawn.txt").write_text("\n".join(gone) + "\n")
    data = site.data.model_copy(update={"withdrawn": tmp_path / "withdrawn.txt"})
    before = rows(write_site_report(site, run, tmp_path / "r.html"))
    after = rows(
        write_site_report(site.model_copy(update={"data": data}), run, tmp_path / "r.html")
    )
    left = tuple(study for study in named if int(study.id[-2:]) not in range(2, 8))
    write_manifest(site.data.dataset, Manifest(
        adapter="x", key_check=manifest.key_check, long_side=96, studies=left))  # fmt: skip
    assert after == rows(write_site_report(site, run, tmp_path / "r.html"))
    assert all(before[word] != after[word] for word in WORDS.values())


def remarks(page: Path) -> str:
    return " ".join(page.read_text(encoding="utf-8").split())


def test_a_first_model_that_a_person_let_pass_is_not_known(site: SiteFile, tmp_path: Path) -> None:
    page = write_site_report(site, kept_run(site, given=True), tmp_path / "r.html")
    assert list(rows(page)["Breast density"]) == ["final model"]
    assert "Round 0 is not known: the run began with a model that this site" in remarks(page)


def test_a_first_model_that_was_not_checked_is_said_to_be(site: SiteFile, tmp_path: Path) -> None:
    run = kept_run(site)
    (run / "lineage.json").unlink()
    page = write_site_report(site, run, tmp_path / "r.html")
    assert "This site did not check the run" in remarks(page)
    assert "round 0" in rows(page)["Breast density"]


def test_a_damaged_record_costs_round_0_alone(site: SiteFile, tmp_path: Path) -> None:
    run = kept_run(site)
    (run / "lineage.json").write_text("{}")
    page = write_site_report(site, run, tmp_path / "r.html")
    assert "Round 0 is not known:" in remarks(page)
    assert list(rows(page)["Suspicious lesion"]) == ["final model"]


def test_other_base_models_than_the_runs_are_noticed(
    site: SiteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rebuilt(*arguments: Any, **options: Any) -> MaMA:
        model = build_model(*arguments, **options)
        frozen = next(p for p in model.parameters() if not p.requires_grad)
        with torch.no_grad():
            frozen.add_(1e-3)
        return model

    monkeypatch.setattr("client.report.first_model.build_model", rebuilt)
    page = write_site_report(site, kept_run(site), tmp_path / "r.html")
    assert "Round 0 is not known: the base models on this machine are not those" in remarks(page)


def test_a_run_that_began_with_an_earlier_one_is_compared_with_that(
    site: SiteFile, tmp_path: Path
) -> None:
    earlier = other(EXPERIMENT, 3)
    start = trained_fingerprint(earlier)
    follows = changed(init_from=start)
    run = kept_run(site, follows)
    page = write_site_report(site, run, tmp_path / "r.html")
    assert "began with an earlier model that this site does not have" in remarks(page)
    record = FinalModel(run="run-1", experiment="small", rounds=2, model=start, finished="before")
    keep(site.run_folder("run-1") / "final", earlier, EXPERIMENT, record)
    first = scored(site, earlier, tmp_path / "first")
    found = rows(write_site_report(site, run, tmp_path / "r.html"))
    for label in LABELS:
        assert found[WORDS[label]]["round 0"] == cell(first[label].estimate())


def test_training_studies_show_no_gain(tmp_path: Path) -> None:
    site = make_site(tmp_path, [make_study(n, "train", suspicious=n < 20) for n in range(40)])
    page = write_site_report(site, kept_run(site), tmp_path / "r.html")
    assert "What this hospital gained" not in page.read_text(encoding="utf-8")


def test_few_patients_have_no_interval(tmp_path: Path) -> None:
    few = [make_study(n, "test", suspicious=n < 4, density=None) for n in range(12)]
    site = make_site(tmp_path, few)
    found = rows(write_site_report(site, kept_run(site), tmp_path / "r.html"))
    assert re.fullmatch(r"\d\.\d{3} none", found["Suspicious lesion"]["final model"])
    assert found["Breast density"]["final model"] == "– not measured"


def test_every_way_to_name_a_run(
    site: SiteFile, tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kept_run(site)
    file = tmp_path / "site.yaml"
    file.write_text(
        f"site: alder\ndata: {{source: {tmp_path}, dataset: dataset}}\n"
        "state: state\nsecret: secret.key\ndevice: cpu\n"
    )
    monkeypatch.chdir(tmp_path)
    pages = []
    for named in (RUN, run, run / "final"):
        ended = command(main, "report", file, named)
        assert (ended.code, ended.out) == (0, f"{tmp_path / 'site_report.html'}\n"), ended.err
        pages.append((tmp_path / "site_report.html").read_bytes())
    # The coordinator's folder: its metrics.json names the run.
    theirs = tmp_path / "theirs"
    save_final(theirs / "final", other(EXPERIMENT, 1), EXPERIMENT)
    write_sealed(theirs / "metrics.json", {"run": RUN})
    command(main, "report", file, theirs)
    pages.append((tmp_path / "site_report.html").read_bytes())
    assert len(set(pages)) == 1
    for named in ("run-8", tmp_path / "dataset", "../state"):
        ended = command(main, "report", file, named)
        assert (ended.code, ended.out) == (4, "")
        assert ended.err.count("\n") == 1
        assert "holds no model" in ended.err


def test_local_tensors_are_the_sites_in_the_last_model_and_fresh_in_round_0(
    site: SiteFile, tmp_path: Path
) -> None:
    experiment = changed(federation={"rounds": 2}, strategy={"local": ["image_projection*"]})
    own, theirs = other(experiment, 1), other(experiment, 1)
    fresh = build_model(experiment)
    theirs.image_projection.load_state_dict(fresh.image_projection.state_dict())
    method = LocalMethod(site, experiment.strategy, RUN, 2)
    save_tensors(method.local.of(2), local_tensors(own, experiment.strategy.local))
    method.local.keep(2)
    save_final(tmp_path / "run" / "final", theirs, experiment)
    write_sealed(tmp_path / "run" / "metrics.json", {"run": RUN})
    found = rows(write_site_report(site, tmp_path / "run", tmp_path / "r.html"))
    first = scored(site, build_model(EXPERIMENT), tmp_path / "first")
    last = scored(site, own, tmp_path / "last")
    for label in LABELS:
        assert found[WORDS[label]]["round 0"] == cell(first[label].estimate())
        assert found[WORDS[label]]["final model"] == cell(last[label].estimate())


@pytest.mark.parametrize("run", ["../../other", 7, None, ["run"]])
def test_a_name_in_a_coordinators_folder_leads_nowhere(
    site: SiteFile, tmp_path: Path, run: Any
) -> None:
    save_final(tmp_path / "final", other(EXPERIMENT, 1), EXPERIMENT)
    write_sealed(tmp_path / "metrics.json", {"run": run})
    page = write_site_report(site, tmp_path, tmp_path / "r.html")
    assert "This site did not check the run" in remarks(page)
