"""One stage a module: a function from its parents' artifacts and its settings to one artifact.

A stage imports no other stage, not the store, and not the command line.
Start with read.py, then follow the order of `edgekd.pipeline.stage_table.STAGES`.
"""
