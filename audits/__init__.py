"""The audit library: what is measured of a model and its records; it needs no trainer."""
