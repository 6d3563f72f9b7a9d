"""Images and labels: sources, decoding, splitting, checks, and the data set that they become.

It may import core and settings.
Start with sources.py (what a source is), then dataset_builder.py (what becomes of it).
"""
