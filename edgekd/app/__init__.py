"""What a user calls: the Python API, the command line, and what each verb does.

This room may import every other room, and no room imports it.
Start with arguments.py, then api.py for Python or cli.py for the command line.
"""
