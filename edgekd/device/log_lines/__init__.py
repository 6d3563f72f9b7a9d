"""The lines that device tools print, one pattern a line, in one table.

Start reading with table.py, which lists all of them, and reader.py, which reads a log with it.
"""
