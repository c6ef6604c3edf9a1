"""Text that models write: keyed draws, decoding, batches of prompts."""
