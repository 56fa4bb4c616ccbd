"""Checks of an experiment: policy, base models, update size, tokeniser, one training step."""

from collections.abc import Iterator
from datetime import datetime

import torch

from client.policy.licence import review_licence
from client.policy.patients import review_patients, sentences
from client.policy.private_terms import review_private
from client.policy.rules import review, upload_mb, values_of
from client.preflight.check import Check, fail, ok, warn
from client.site.config import SiteFile
from client.site.dataset import dataset_of
from client.training import tasks
from client.training.gpu_memory import limit_gpu_memory
from mama.config import Experiment
from mama.data.pairs import StudyPairs
from mama.errors import MamaError
from mama.exchange.codes import ErrorCode
from mama.model import build_model
from mama.system.formats import gib
from mama.training.device import device_of
from mama.training.trainer import Trainer


def check_experiment(
    site: SiteFile, experiment: Experiment, fingerprint: str = ""
) -> Iterator[Check]:
    """Check an experiment against this site's policy, data, base models and device.

    Args:
        site: the site file.
        experiment: the experiment to check.
        fingerprint: fingerprint of the coordinator's base models, or a prefix; empty if unknown.

    Raises:
        MamaError: a base model is missing, the dataset is too small, or a step fails.
    """
    pairs = StudyPairs(dataset_of(site), experiment, stream=site.site)
    for finding in (
        *review(site, experiment, datetime.now()),
        *review_licence(site, experiment),
        *review_patients(site, pairs),
        *review_private(site, experiment),
    ):
        text = f"{finding.allowed}; experiment: {finding.requested}"
        if finding.passes:
            yield ok(f"policy {finding.rule}", text)
        else:
            remedy = f"The site refuses with code {finding.code}"
            yield fail(f"policy {finding.rule}", text, remedy)
    for line in sentences(site, experiment):
        yield ok("leaves the site", line)
    described = tasks.describe(site, experiment)
    yield _base(described.fingerprint, fingerprint)
    size = upload_mb(experiment, values_of(tasks.shapes(site, experiment)))
    limit = site.policy.max_upload_mb
    if limit is not None and size > limit:
        remedy = (
            f"The site refuses with code {ErrorCode.POLICY_UPLOAD}; "
            f"policy.max_upload_mb is {limit:g}"
        )
        yield fail("update", f"about {size:.1f} MB a round", remedy)
    else:
        yield ok("update", f"about {size:.1f} MB a round")
    yield _words(site, experiment)
    yield _one_step(site, experiment, pairs)


def _base(found: str, wanted: str) -> Check:
    if not wanted:
        text = f"fingerprint {found}; compare it with the one `mama-server run` prints"
        return ok("base models", text)
    if not found.startswith(wanted.lower()):
        return fail(
            "base models",
            f"fingerprint {found} differs from the coordinator's, {wanted}",
            "Obtain the same weights and register them by `mama-site base add`",
        )
    return ok("base models", f"fingerprint {found}, equal to the coordinator's")


def _words(site: SiteFile, experiment: Experiment) -> Check:
    """Check that the text tower's tokeniser knows the words of the reports."""
    if remark := tasks.remark_on_reports(site, experiment):
        return warn("words", remark, "Check that the text tower supports the reports' language")
    return ok("words", "the text tower's tokeniser knows the reports' words")


def _one_step(site: SiteFile, experiment: Experiment, pairs: StudyPairs) -> Check:
    device = device_of(site.device)
    model = build_model(experiment, site.models)
    limit_gpu_memory(site, model, device)
    model.to(device)
    record = Trainer(model, pairs, experiment, device, []).train(0, 1)
    if record.steps == 0:
        raise MamaError("one training step gave no finite loss", fix="Check the images")
    if record.flat:
        return warn(
            "one step",
            "the batch holds one patient or one distinct report, so the loss has no contrast",
            "Use more patients, more varied reports or a larger optimiser.batch_size",
        )
    memory = ""
    if device.type == "cuda":
        memory = f", at most {gib(torch.cuda.max_memory_allocated(device))} GiB of the GPU"
    return ok("one step", f"trained in {record.seconds:.1f} s{memory}")
