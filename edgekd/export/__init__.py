"""From a trained int8 network to files: ONNX first, then an int8 TFLite model that we write
ourselves.

It may import the rooms before it, down to quantization.
Start with onnx_export.py, then onnx_to_tflite.py.
"""
