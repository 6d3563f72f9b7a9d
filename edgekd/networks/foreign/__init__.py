"""Networks that a user brings: one file for each form, and `load`, which tells them apart.

Start with `model.py` (what every form gives) and `loader.py` (which form a text names).
"""
