"""Networks as PyTorch modules: building them by name, editing them for a device, running them, finding prunable channels.

It may import core and settings.
Start with builders.py.
"""
