"""The .tflite format: the int8 rules, reading and writing flatbuffers, operator versions, metadata, and the runtime.

It may import core and settings.
Start with int8_rules.py and flatbuffer.py.
"""
