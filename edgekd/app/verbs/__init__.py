"""One file for each verb of the command line.

Each has a function `run(arguments) -> exit code`, which takes the verb's dataclass of
edgekd.app.arguments, and imports its libraries only when it runs.
Start with verify.py, the shortest.
"""
