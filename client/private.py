"""A round of private training at this site: roster, ledger, trainer, and the little that may be said of it."""

import hashlib
import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from client.consent import dataset_of, ingested
from client.ledger import SiteLedger
from client.sitefile import SiteFile
from mama.config import Experiment
from mama.corrections import Correction
from mama.data.studies import Study
from mama.exchange.metrics import PrivacySpent, TrainingMetrics
from mama.exchange.protocol import Task
from mama.files import write_text
from mama.model import MaMA
from mama.privacy.accounting import rdp_epsilon, replace_one_epsilon
from mama.privacy.groups import SlotPairs, told_images
from mama.privacy.roster import PatientSlotRoster
from mama.privacy.training import PrivateTrainer

logger = logging.getLogger("fedmama.client")
HEAD = "ledger_head"


class PrivateRound:
    """One task's private training. The ledger is checked against every earlier state of it that is known.

    Raises:
        PrivacyError: ledger or roster are damaged, or the ledger is older than it was.
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
        self, model: MaMA, device: torch.device, corrections: Sequence[Correction]
    ) -> PrivateTrainer:
        """The trainer of the round."""
        lost = self.roster.lost_share(self.experiment.privacy.group_size)
        if lost > 0:
            logger.warning(
                "site %s: empty slots silence %.0f %% of the groups", self.site.site, 100 * lost
            )
        pairs = SlotPairs(self.dataset, self.experiment, self.site.site, self.roster)
        return PrivateTrainer(model, pairs, self.experiment, device, self.ledger, corrections)

    def keep_head(self) -> None:
        """Note how far the ledger was, before anything else remembers the steps that it has charged."""
        write_text(self.head, self.ledger.head)

    def metrics(self) -> TrainingMetrics:
        """What leaves beside the update: public figures, and what was paid. The ledger's head is kept here too."""
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
    """The ledger of the site's patients."""
    return SiteLedger(site.privacy / "ledger", site.budget, run, number, dataset)


def known_heads(site: SiteFile) -> list[str]:
    """The seals that the ledger had when steps or rounds were last put on the disk, as the runs' folders keep them."""
    return [
        path.read_text(errors="replace", encoding="utf-8")
        for path in site.state.glob(f"runs/*/{HEAD}")
    ]


def roster_file(site: SiteFile) -> Path:
    """Where the roster lies from which the next run's is made."""
    return site.privacy / "roster.json"


def spent(ledger: SiteLedger, run_delta: float) -> PrivacySpent:
    """A ledger's total, and what its run has cost of it, at the delta that the run plans with."""
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


def _roster(site: SiteFile, run: str, studies: Iterable[Study], slots: int) -> PatientSlotRoster:
    """The roster of a run, refilled from the site's at the run's first round and never within it."""
    own = site.run_folder(run) / "roster.json"
    if own.exists():
        return PatientSlotRoster.load(own)
    roster = roster_to_be(site, studies, slots)
    roster.save(roster_file(site))
    roster.save(own)
    return roster


def roster_to_be(site: SiteFile, studies: Iterable[Study], slots: int) -> PatientSlotRoster:
    """The roster that a run on these studies would have if it began now.

    Who waits for a free slot is drawn anew each time.
    """
    patients = {study.patient for study in studies if told_images(study)}
    return PatientSlotRoster.load(roster_file(site)).refilled(patients, slots)


def _fingerprint(site: SiteFile) -> str:
    """Recorded only: the budget is the patients', however their images are ingested again."""
    return hashlib.sha256(ingested(site).read_bytes()).hexdigest()[:16]
