"""The tables of TFLite's model metadata, as Python code that flatc generated.

model_metadata.fbs is the source and holds the command that generates the other files.
It imports flatbuffers alone. Start with `edgekd.tflite.metadata_codec`, which uses it.
"""
