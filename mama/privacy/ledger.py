"""Interface between private training and the ledger of its privacy budget."""

from typing import Protocol


class Ledger(Protocol):
    """Ledger of privacy costs; steps are charged before they run, so a crash leaves none unpaid."""

    def require_budget(self, steps: int, noise_multiplier: float, sample_rate: float) -> None:
        """Check that the budget covers this many steps, without charging them.

        Raises:
            BudgetError: the budget is too small.
        """

    def reserve(self, step: int, noise_multiplier: float, sample_rate: float) -> None:
        """Charge one step durably; the step may run when this returns.

        A repeated step is charged again: its noise is new, so it reveals new information.

        Raises:
            BudgetError: the step would exceed the budget; it must not run.
            PrivacyError: the charge could not be written; the step must not run.
        """
