"""Membership inference: what attacks read, the attacks, and what is said of their scores."""
