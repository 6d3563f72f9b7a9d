"""What is handed to an app: the models with their metadata, golden images, samples and papers.

It may import core, settings, data, tflite, evaluation, proof and device.
Start with assemble.py, and read verify_bundle.py for what a bundle guarantees.
"""
