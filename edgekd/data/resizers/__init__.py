"""The resizers that apps use, each written from its documented algorithm, one a file.

All of them are separable. `resize` gives the pixels of the platform, rounded as the platform rounds
them. `weights` gives the same filter as a matrix without rounding, for training on a GPU, too. What
a file could not be compared with (a phone) is said in its first lines.

Start at `algorithms.py`, the table of all of them.
"""
