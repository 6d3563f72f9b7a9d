"""What a device will make of a model before it is trained: operators, memory, latency, and edits.

It may import core, settings, data, tflite, networks, evaluation, training, quantization, export,
proof and device. Start with graph_check.py, which puts the answer of `edgekd check` together.
"""
