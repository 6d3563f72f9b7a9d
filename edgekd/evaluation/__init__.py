"""How good a network is: metrics, the accuracy waterfall, confidence, subgroups, and where a network looks.

It may import core, settings, data, tflite and networks.
Start with waterfall.py.
"""
