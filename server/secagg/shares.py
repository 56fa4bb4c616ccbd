"""Reconstruction of Shamir secrets with some wrong shares, and identification of their senders."""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import combinations
from math import comb
from random import sample

from flwr.common.secure_aggregation.crypto.shamir import combine_shares

# Sets of shares that are tried for one secret, at 5 to 50 ms each.
TRIES = 200


def recovered(
    shares: Mapping[str, bytes],
    threshold: int,
    fits: Callable[[bytes], bool],
    suspects: Collection[str],
) -> tuple[bytes, set[str]] | None:
    """Reconstruct a secret from shares of which some may be wrong.

    Args:
        shares: by sender.
        threshold: number of shares that determine the secret.
        fits: check of a secret against its owner's announcement.
        suspects: senders whose shares are tried last.

    Returns:
        The secret and the senders whose shares do not fit it; None if no set of shares tried
        gives it.
    """
    senders = sorted(shares, key=lambda site: (site in suspects, site))
    for chosen in _sets(senders, threshold):
        secret = _combined([shares[site] for site in chosen])
        if secret is None or not fits(secret):
            continue
        good = [shares[site] for site in chosen[1:]]
        rest = set(senders) - set(chosen)
        return secret, {site for site in rest if _combined([*good, shares[site]]) != secret}
    return None


def _sets(senders: list[str], size: int) -> Iterator[tuple[str, ...]]:
    if comb(len(senders), size) <= TRIES:
        yield from combinations(senders, size)
    elif size <= len(senders):
        yield tuple(senders[:size])
        # With k liars about one in 2^k of these is without any.
        for _ in range(TRIES - 1):
            yield tuple(sample(senders, size))


def _combined(shares: list[bytes]) -> bytes | None:
    if len({len(share) for share in shares}) != 1:
        return None
    try:
        return combine_shares(shares)
    except ValueError:
        return None
