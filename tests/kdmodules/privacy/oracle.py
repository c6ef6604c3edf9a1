"""Writes oracle.csv: values of dp-accounting 0.6.0, which wants packages older than this project's.

python3 -m venv oracle && oracle/bin/pip install dp-accounting==0.6.0
oracle/bin/python tests/kdmodules/privacy/oracle.py
"""

import csv
from pathlib import Path

ORACLE = Path(__file__).with_name("oracle.csv")
TRAININGS = (
    # rate, noise, steps, delta
    (64 / 180, 1.09, 33, 180**-1.1),
    (256 / 1000, 1.33, 78, 1000**-1.1),
    (256 / 1000, 2.13, 78, 1000**-1.1),
    (1024 / 5000, 1.33, 97, 5000**-1.1),
    (1024 / 15000, 1.17, 146, 15000**-1.1),
    (0.01, 0.8, 1000, 1e-5),
    (0.5, 0.5, 10, 1e-3),
    (1.0, 6.0, 20, 1e-5),
    (0.3, 8.0, 50, 1e-4),
)


def main() -> None:
    """Asks dp-accounting for epsilon in both directions and writes the table."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    with ORACLE.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["rate", "noise", "steps", "delta", "epsilon"])
        for rate, noise, steps, delta in TRAININGS:
            one_step = pld.from_gaussian_mechanism(noise, sampling_prob=rate)
            epsilon = one_step.self_compose(steps).get_epsilon_for_delta(delta)
            table.writerow([rate, noise, steps, delta, epsilon])


if __name__ == "__main__":
    main()
