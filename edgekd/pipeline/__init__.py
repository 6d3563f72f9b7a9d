"""The stages of a build in order: what each one makes, what decides its key, and how they run.

It may import every room before it in the table of CONTRIBUTING.md.
Start with stage_table.py and runner.py.
"""
