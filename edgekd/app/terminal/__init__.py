"""Results as text and tables on the terminal, one file for each kind of result.

The functions take a way to print (`Console.say`) and a record, and import rich for their tables.
Start with bench.py.
"""
