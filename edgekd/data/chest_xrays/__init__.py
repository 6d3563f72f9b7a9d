"""The label files of public chest X-ray data sets, read as their owners publish them.

Start with formats.py: which data sets there are, and how their files are recognised.
"""
