"""Images and labels: where they come from, how they are decoded, split and checked, and the data set that comes out.

It may import core and settings.
Start with datasets.py.
"""
