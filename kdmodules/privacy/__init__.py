"""Training that is differentially private, and what its guarantee is."""
