"""Coral's Edge TPU: which operators map, what they cost, its compiler and the compiled file."""
