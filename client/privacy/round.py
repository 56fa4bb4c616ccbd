"""Private round at a site: patient slots, ledger, trainer, and the figures that may leave."""

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from client.privacy.ledger import SiteLedger
from client.site.config import SiteFile
from client.site.dataset import dataset_of, ingested
from mama.config import Experiment
from mama.data.studies import Study
from mama.exchange.metrics import PrivacySpent, TrainingMetrics
from mama.exchange.protocol import Task
from mama.model import MaMA
from mama.privacy.accounting import rdp_epsilon, replace_one_epsilon
from mama.privacy.groups import SlotPairs, described_images
from mama.privacy.slots import PatientSlots
from mama.privacy.training import PrivateTrainer
from mama.system.files import sha256_of, write_text
from mama.training.hooks import GradientHook

logger = logging.getLogger("fedmama.client")
HEAD = "ledger_head"


class PrivateRound:
    """Private training of one task, with a ledger that is checked against all known earlier seals.

    Raises:
        PrivacyError: the ledger or roster is damaged, or the ledger is an older copy.
    """

    def __init__(self, site: SiteFile, experiment: Experiment, task: Task):
        self.site, self.experiment = site, experiment
        self.head = site.run_folder(task.run) / HEAD
        self.dataset = dataset_of(site)
        self.ledger = site_ledger(site, task.run, task.round, _fingerprint(site))
        self.ledger.require([*known_heads(site), *([task.ledger] if task.ledger else [])])
        self.roster = _roster(
            site, task.run, self.dataset.studies("train"), experiment.privacy.slots
        )

    def trainer(
        self, model: MaMA, device: torch.device, hooks: Sequence[GradientHook]
    ) -> PrivateTrainer:
        """Return the trainer of the round."""
        lost = self.roster.lost_share(self.experiment.privacy.group_size)
        if lost > 0:
            logger.warning(
                "site %s: empty slots silence %.0f %% of the groups", self.site.site, 100 * lost
            )
        pairs = SlotPairs(self.dataset, self.experiment, self.site.site, self.roster)
        return PrivateTrainer(model, pairs, self.experiment, device, self.ledger, hooks)

    def keep_head(self) -> None:
        """Record the ledger's head; called before anything else stores the charged steps."""
        write_text(self.head, self.ledger.head)

    def metrics(self) -> TrainingMetrics:
        """Return the figures that are sent with the update: public ones, and the privacy spent."""
        self.keep_head()
        return TrainingMetrics(
            studies=self.experiment.privacy.slots,
            patients=self.experiment.privacy.slots,
            steps=self.experiment.federation.local_steps,
            skipped=0,
            seconds=0,
            terms={},
            privacy=spent(self.ledger, self.experiment.privacy.delta),
        )


def site_ledger(site: SiteFile, run: str = "", number: int = 0, dataset: str = "") -> SiteLedger:
    """Return the ledger of the site's patients."""
    return SiteLedger(site.privacy / "ledger", site.budget, run, number, dataset)


def known_heads(site: SiteFile) -> list[str]:
    """Return the ledger's heads at the last stored steps or rounds, from the runs' folders."""
    return [
        path.read_text(errors="replace", encoding="utf-8")
        for path in site.state.glob(f"runs/*/{HEAD}")
    ]


def roster_file(site: SiteFile) -> Path:
    """Return the path of the patient slots that the next run starts from."""
    return site.privacy / "roster.json"


def spent(ledger: SiteLedger, run_delta: float) -> PrivacySpent:
    """Return a ledger's total and its run's part of it, the latter at the run's planned delta."""
    charges, delta = ledger.charges, ledger.budget.delta
    of_run = ledger.charges_of(ledger.run)
    replaced = replace_one_epsilon(charges, delta)
    return PrivacySpent(
        epsilon=ledger.epsilon(),
        replace_one=replaced if math.isfinite(replaced) else None,
        delta=delta,
        steps=sum(steps for _, _, steps in charges),
        run_epsilon=rdp_epsilon(of_run, run_delta),
        run_steps=sum(steps for _, _, steps in of_run),
        head=ledger.head,
    )


def _roster(site: SiteFile, run: str, studies: Iterable[Study], slots: int) -> PatientSlots:
    """Return a run's roster, refilled from the site's only at the run's first round."""
    own = site.run_folder(run) / "roster.json"
    if own.exists():
        return PatientSlots.load(own)
    roster = roster_to_be(site, studies, slots)
    roster.save(roster_file(site))
    roster.save(own)
    return roster


def roster_to_be(site: SiteFile, studies: Iterable[Study], slots: int) -> PatientSlots:
    """Return the roster of a run on these studies that would begin now.

    Patients who wait for a free slot are drawn anew each time.
    """
    patients = {study.patient for study in studies if described_images(study)}
    return PatientSlots.load(roster_file(site)).refilled(patients, slots)


def _fingerprint(site: SiteFile) -> str:
    """Return the dataset's fingerprint, recorded only: ingesting again does not renew a budget."""
    return sha256_of(ingested(site))[:16]
