"""From a float network to an int8 one: capturing its graph, int8 training, calibration, remedies.

It may import core, settings, data, tflite, networks, evaluation and training.
Start with qat_network.py, then graphs.py and fakequant_placement.py.
"""
