"""The comparisons of `beside.py`, a file each; `turns.py` and `models.py` are what they share."""
