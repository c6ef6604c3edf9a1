"""The model card that an export carries."""
