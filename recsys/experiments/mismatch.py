"""Do as many users of each arm appear as were assigned to it? A test that may be looked at at any time.

Source: Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022. The Bayes factor
of counts against the planned shares exceeds 1 / alpha at any time with probability alpha at most, if the
shares are as planned.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln

ALPHA = 0.001
"""Chance of a false alarm over the whole experiment: what fails this test is a broken log, not bad luck."""
_CONCENTRATION = 1_000.0
"""Weight of the planned shares before data: broken splits are off by a few per cent, not by half."""


def mismatch_p_value(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Return an always-valid p-value for the hypothesis that users arrive with these shares.

    Parameters
    ----------
    counts
        [arms] users who appeared.
    shares
        [arms] planned shares, summing to 1; an arm whose share is 0 must have no users.
    """
    planned, seen = np.asarray(shares, dtype=float), np.asarray(counts, dtype=float)
    if seen[planned == 0].any():
        return 0.0
    seen, planned = seen[planned > 0], planned[planned > 0]
    prior = _CONCENTRATION * planned
    log_factor = (
        gammaln(prior.sum())
        - gammaln(prior.sum() + seen.sum())
        + (gammaln(prior + seen) - gammaln(prior)).sum()
        - (seen * np.log(planned)).sum()
    )
    return float(np.exp(min(0.0, -log_factor)))
