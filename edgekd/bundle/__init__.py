"""What is handed to the app: the model with its metadata, golden images, samples, licence chain, and model card.

It may import core, settings, data, tflite, evaluation, proof and device.
Start with assemble.py.
"""
