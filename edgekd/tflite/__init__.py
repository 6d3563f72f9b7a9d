"""The .tflite format: int8 rules, flatbuffers, operators and their versions, metadata, the runtime.

It may import core and settings.
Start with operators.py, int8_rules.py and flatbuffer.py.
"""
