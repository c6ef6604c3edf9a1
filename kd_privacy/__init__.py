"""The front door: the commands and the Python functions."""
