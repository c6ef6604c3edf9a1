"""One pass over records: token statistics, access to the model, and the shift test of texts."""
