"""Networks as PyTorch modules: built by name, edited for a device, run, and pruned.

It may import core and settings.
Start with builders.py.
"""
