"""The certificate: checks that a .tflite is the network that was trained.

This room imports core, data and tflite alone. It never imports export or quantization, because it
must not trust them. Start reading with certificate.py, which lists the checks.
"""
