"""Parts of `collect.py`."""
