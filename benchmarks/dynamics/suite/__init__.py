"""Parts of `stability.py`."""
