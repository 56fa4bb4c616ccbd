"""What private training needs of whoever keeps the accounts."""

from typing import Protocol


class Ledger(Protocol):
    """Steps are paid for before they are taken, so that a crash never leaves one unpaid."""

    def require_budget(self, steps: int, noise_multiplier: float, sample_rate: float) -> None:
        """Check that so many steps can be paid, without charging any.

        Raises:
            BudgetError: they cannot.
        """

    def reserve(self, step: int, noise_multiplier: float, sample_rate: float) -> None:
        """Charge one step, durably; when this returns, the step may run.

        A step that is run again is charged again: its noise is new, so it tells something new.

        Raises:
            BudgetError: the step would exceed the budget; it must not run.
            PrivacyError: the charge could not be written; the step must not run.
        """
