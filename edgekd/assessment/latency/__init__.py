"""Latency from shapes: a linear model of a device, fitted to measured networks, with an interval.

Start with model.py, which predicts. fit.py makes such a model; files.py reads and writes it.
"""
