"""NPUs that LiteRT's CompiledModel reaches: what each vendor's plug-in takes.

Start with vendor_types.py, the data types. The operators stand in the profiles.
"""
