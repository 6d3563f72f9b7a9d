"""What a device will make of a model, before training: operators that map, memory, latency, and what to edit.

It may import every room above it in the table of CONTRIBUTING.md.
Start with assess.py.
"""
