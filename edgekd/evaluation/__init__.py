"""How good a network is: metrics, the accuracy waterfall, confidence, subgroups, where it looks.

It may import core, settings, data, tflite and networks.
Start with waterfall.py, and with accuracy_record.py, which names every figure that it builds.
"""
