"""Coral's Edge TPU: the operators that map, what they cost, its compiler, and compiled files.

Start with edgetpu_rules.py. mappers/edge_tpu.py puts these parts together.
"""
