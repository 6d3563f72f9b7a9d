"""From a float network to an int8 one: recording its graph, placing fake-quantizers, QAT, calibration and remedies.

It may import core, settings, data, tflite, networks, evaluation and training.
Start with qat_network.py.
"""
