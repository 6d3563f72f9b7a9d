"""The stages of a build, in order: what each makes, what decides its key, and running them.

It may import every room above it in the table of CONTRIBUTING.md.
Start with stage_table.py and runner.py.
"""
