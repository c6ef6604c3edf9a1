"""Writes one_run_mu_oracle.csv: which mu PrivacyGuard's code for the same paper still allows.

git clone https://github.com/facebookresearch/PrivacyGuard && cd PrivacyGuard
git checkout fb9c26c
PYTHONPATH=$PWD python <here>/tests/audits/statistics/one_run_mu_oracle.py
"""

import csv
from pathlib import Path

ORACLE = Path(__file__).with_suffix(".csv")
COUNTS = (
    # units, guesses, right guesses, tail
    (100, 100, 70, 0.05),
    (100, 10, 10, 0.05),
    (400, 400, 210, 0.05),
    (400, 400, 300, 0.01),
    (1000, 100, 95, 0.05),
    (1000, 1000, 999, 0.05),
    (5000, 500, 450, 0.00625),
    (20, 4, 4, 0.05),
)


def main() -> None:
    """Asks PrivacyGuard, noise by noise, and writes the largest mu that it rejects to 0.001."""
    from privacy_guard.analysis.mia.fdp_analysis_node import FDPAnalysisNode

    with ORACLE.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["units", "guesses", "right", "tail", "mu"])
        for units, guesses, right, tail in COUNTS:
            node = FDPAnalysisNode(units, right, guesses, threshold=tail)
            low, high = 1e-4, 20.0
            while high - low > 1e-4:
                mu = (low + high) / 2
                inverse = node.gaussianDP_blow_up_inverse(1 / mu)
                allowed = node.audit_rh_with_cap(inverse, units, right, guesses)
                low, high = (low, mu) if allowed else (mu, high)
            table.writerow([units, guesses, right, tail, round(low, 4)])


if __name__ == "__main__":
    main()
