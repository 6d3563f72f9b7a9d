"""The certificate: checks that a .tflite is the network that was trained.

It may import core, data and tflite alone, and never export or quantization, since it must not trust
them. Start with expected_model.py and kernel_check.py.
"""
