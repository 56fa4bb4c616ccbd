"""Rule on data whose licence lets no weights be shared: updates leave only in a masked sum."""

from collections.abc import Iterator

from client.errors import RefusedError
from client.policy.finding import Finding
from client.site.config import SiteFile
from client.site.dataset import may_share_weights
from mama.config import Experiment
from mama.exchange.codes import ErrorCode


def review_licence(site: SiteFile, experiment: Experiment) -> Iterator[Finding]:
    """Yield a finding if the licence of the site's data lets no weights be shared.

    Secure aggregation satisfies it, since no weights of this site alone leave then, and so does the
    site's own word, `policy.share_licensed_weights`.
    """
    if may_share_weights(site):
        return
    secure, by_word = experiment.privacy.secure is not None, site.policy.share_licensed_weights
    yield Finding(
        "share_licensed_weights",
        "any experiment" if by_word else "privacy.secure, as the data's licence demands",
        f"privacy.secure {'set' if secure else 'not set'}",
        secure or by_word,
        ErrorCode.POLICY_LICENCE,
    )


def require_licence(site: SiteFile, experiment: Experiment) -> None:
    """Refuse an experiment that would let weights leave against the licence of the data.

    Raises:
        RefusedError: there is neither secure aggregation nor the site's word.
    """
    for finding in review_licence(site, experiment):
        if not finding.passes:
            raise RefusedError(
                finding.code,
                "the licence of the data lets no weights be shared: set privacy.secure in the "
                "experiment, or policy.share_licensed_weights here if the licensor agrees",
            )
