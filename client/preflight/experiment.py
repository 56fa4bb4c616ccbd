"""An experiment at this site: policy, base models, image size, memory, and one step of training."""

from collections.abc import Iterator
from datetime import datetime

import torch

from client import work
from client.consent import dataset_of
from client.gpu_memory import limit_gpu_memory
from client.patients import review_patients, sentences
from client.policy import review, upload_mb, values_of
from client.preflight.check import Check, fail, ok, warn
from client.private_terms import review_private
from client.sitefile import SiteFile
from mama.config import Experiment
from mama.data.pairs import StudyPairs
from mama.errors import MamaError
from mama.exchange.codes import ErrorCode
from mama.model import build_model
from mama.trainer import Trainer


def check_experiment(
    site: SiteFile, experiment: Experiment, fingerprint: str = ""
) -> Iterator[Check]:
    """What the experiment would meet here.

    Args:
        fingerprint: of the coordinator's base models, or its beginning; empty where it is not known.

    Raises:
        MamaError: a base model is missing, the dataset is too small, or a step fails.
    """
    pairs = StudyPairs(dataset_of(site), experiment, stream=site.site)
    for finding in (
        *review(site, experiment, datetime.now()),
        *review_patients(site, pairs),
        *review_private(site, experiment),
    ):
        said = f"{finding.allowed}; asked: {finding.asked}"
        if finding.passes:
            yield ok(f"policy {finding.rule}", said)
        else:
            yield fail(f"policy {finding.rule}", said, f"Refused with code {finding.code}")
    for line in sentences(site, experiment):
        yield ok("what leaves", line)
    described = work.describe(site, experiment)
    yield _base(described.fingerprint, fingerprint)
    size = upload_mb(experiment, values_of(work.shapes(site, experiment)))
    limit = site.policy.max_upload_mb
    if limit is not None and size > limit:
        remedy = f"Refused with code {ErrorCode.POLICY_UPLOAD}; policy.max_upload_mb is {limit:g}"
        yield fail("update", f"about {size:.1f} MB a round", remedy)
    else:
        yield ok("update", f"about {size:.1f} MB a round")
    yield _words(site, experiment)
    yield _one_step(site, experiment, pairs)


def _base(found: str, wanted: str) -> Check:
    if not wanted:
        told = f"fingerprint {found}; `mama-server run` prints the coordinator's"
        return ok("base models", told)
    if not found.startswith(wanted.lower()):
        return fail(
            "base models",
            f"fingerprint {found}, the coordinator's is {wanted}",
            "Install the same weights; `mama-site base add` enters them",
        )
    return ok("base models", f"fingerprint {found}, the coordinator's")


def _words(site: SiteFile, experiment: Experiment) -> Check:
    """The share of the reports' words that the text tower's tokeniser knows."""
    if remark := work.remark_on_reports(site, experiment):
        return warn("words", remark, "Is it a model of the reports' language?")
    return ok("words", "the text tower's tokeniser knows the reports' words")


def _one_step(site: SiteFile, experiment: Experiment, pairs: StudyPairs) -> Check:
    device = work.device_of(site)
    model = build_model(experiment, site.models)
    limit_gpu_memory(site, model, device)
    model.to(device)
    record = Trainer(model, pairs, experiment, device, []).train(0, 1)
    if record.steps == 0:
        raise MamaError("one step of training gave no finite loss", fix="Look at the images")
    if record.flat:
        return warn(
            "one step",
            "its batch had one patient or one report alone, from which nothing can be learnt",
            "Take more patients, unequal reports or a larger optimiser.batch_size",
        )
    memory = ""
    if device.type == "cuda":
        memory = f", at most {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB of the GPU"
    return ok("one step", f"trained in {record.seconds:.1f} s{memory}")
