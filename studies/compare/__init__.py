"""Figures that compare the runs of a study."""
