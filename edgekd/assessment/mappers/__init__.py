"""Mappers: for each kind of device, the rules that say where an operator runs and what it costs.

Start with mapper.py, the interface. registry.py finds the mapper that a profile names.
"""
