"""One file for each verb of the command line, with a function `run(command)` -> exit code.

A module here may import large libraries: the command line imports it only when its verb is used.
Start with verify.py, the shortest.
"""
