"""First model of a run, rebuilt at a site from the experiment's seed instead of being stored.

The site has checked that the first model it received is the one that it builds itself
(`client/policy/lineage.py`); this module builds it again. The frozen weights are compared with
those of the last model, so that a different base model is detected.
"""

from pathlib import Path
from typing import Literal

from client.policy.lineage import DAMAGED, RECORD
from client.site.config import SiteFile
from client.site.final_models import finals
from mama.config import Experiment
from mama.errors import ModelError
from mama.exchange.fingerprint import fingerprint, trained_fingerprint
from mama.exchange.tensors import put_trained, trained_arrays
from mama.final.saved import load_final
from mama.model import MaMA, build_model
from mama.system.sealed import read_sealed

UNSEEN = (
    "This site did not check the run's first model; round 0 is what the experiment's seed gives."
)


def first_model(
    site: SiteFile, experiment: Experiment, last: MaMA, run: str | None
) -> tuple[MaMA, str]:
    """Return the model of round 0 with the site's initial local tensors, and a remark for readers.

    Args:
        site: the site's settings.
        experiment: the run's experiment.
        last: the run's final model, which must have the same base weights.
        run: the run's name; None if it is not known.

    Raises:
        ModelError: this site cannot build the model, for the reason given.
        IntegrityError: the site's record of the run's models is damaged.
    """
    began = began_with(site.run_folder(run)) if run else "unseen"
    if began == "given":
        raise ModelError(
            "the run began with a model that this site does not build, and did not keep"
        )
    # The final model holds a quantised base at full precision.
    text = experiment.text.model_copy(update={"base_bits": None})
    model = build_model(experiment.model_copy(update={"text": text}), site.models)
    if experiment.text.base_bits is None and fingerprint(model) != fingerprint(last):
        raise ModelError("the base models on this machine are not those that the run began with")
    if experiment.init_from is None:
        return model, UNSEEN if began == "unseen" else ""
    earlier = load_final(_folder_of(site, experiment.init_from))[0]
    if trained_fingerprint(earlier) != experiment.init_from:
        raise ModelError("the earlier model that the run began with was changed")
    local = experiment.strategy.local
    put_trained(model, trained_arrays(earlier, local), local)
    return model, ""


def _folder_of(site: SiteFile, model: str) -> Path:
    for folder, record, _ in finals(site.state):
        if record.model == model:
            return folder
    raise ModelError("the run began with an earlier model that this site does not have")


def began_with(run_folder: Path) -> Literal["built", "given", "unseen"]:
    """Return the origin of a run's first model.

    `built`: the site builds it itself, or the experiment names it as an earlier run's. `given`: a
    person approved another model. `unseen`: this site did not check the model.

    Raises:
        IntegrityError: the record of the models is damaged.
    """
    found = read_sealed(run_folder / RECORD, DAMAGED) or {}
    if "0" not in found.get("models", {}):
        return "unseen"
    return "given" if found.get("given") else "built"
