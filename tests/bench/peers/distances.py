"""Distances and tests of histograms without noise, as scipy and Evidently compute them on the samples themselves.

Writes crates/sanderling-sketch/tests/distances.json, which the crate's tests compare with:

    python tests/bench/peers/distances.py crates/sanderling-sketch/tests/distances.json

Needs scipy 1.17.1, evidently 0.7.23 (and pandas < 3, which that asks for).
"""

import json
import sys

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests.jensenshannon import _jensenshannon
from evidently.legacy.calculations.stattests.psi import _psi
from evidently.legacy.calculations.stattests.wasserstein_distance_norm import _wasserstein_distance_norm
from evidently.legacy.core import ColumnType
from scipy import stats


def case(rng, bins, size, sparse):
    """Two histograms that differ a little, with empty bins where asked for."""
    shares = rng.dirichlet(np.full(bins, 2.0))
    moved = 0.7 * shares + 0.3 * rng.dirichlet(np.full(bins, 2.0))
    before, now = (rng.multinomial(size, p / p.sum()) for p in (shares, moved))
    if sparse:
        before[0], now[-1] = 0, 0
    else:
        before, now = before + 5, now + 5
    return before, now


def measured(before, now):
    values = np.arange(len(before), dtype=float)
    reference, current = (pd.Series(np.repeat(values, counts)) for counts in (before, now))
    table = np.array([before, now])
    table = table[:, table.sum(0) > 0]
    chi = stats.chi2_contingency(table, correction=False)
    dense = chi.expected_freq.min() >= 5
    return {
        "before": before.tolist(),
        "now": now.tolist(),
        "chi_squared": chi.statistic if dense else None,
        "chi_squared_p_value": chi.pvalue if dense else None,
        "kolmogorov_smirnov": stats.ks_2samp(reference, current).statistic,
        "wasserstein": stats.wasserstein_distance(reference, current),
        "evidently_psi": _psi(reference, current, ColumnType.Categorical, 0.1)[0],
        "evidently_jensen_shannon": _jensenshannon(reference, current, ColumnType.Categorical, 0.1, base=2)[0],
        "evidently_wasserstein_norm": _wasserstein_distance_norm(reference, current, ColumnType.Numerical, 0.1)[0],
    }


def main():
    rng = np.random.default_rng(1)
    shapes = [(bins, size, sparse) for bins in (2, 5, 8, 16) for size in (200, 5_000, 100_000) for sparse in (False, True)]
    cases = [measured(*case(rng, *shape)) for shape in shapes if not (shape[0] == 2 and shape[2])]
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        json.dump(cases, out, indent=1)
        out.write("\n")


main()
