"""What every floor stands on: errors, keyed randomness, atomic files, ranks, wording."""
