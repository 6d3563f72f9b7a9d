"""EdgeKD: distil, quantise, certify and ship vision models to boards and phones."""

__version__ = "0.1.0"
