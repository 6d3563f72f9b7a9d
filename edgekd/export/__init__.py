"""From the trained int8 network to files: ONNX, and the .tflite that is lowered from it exactly.

It may import core, settings, tflite, networks and quantization.
Start with onnx_export.py and tflite_convert.py.
"""
