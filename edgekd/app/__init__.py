"""What a user calls: the command line, and what each verb does.

It may import every other room, and none imports it.
Start with cli.py and build.py.
"""
