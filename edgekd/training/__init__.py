"""Teaching a student: views of images, losses, adapters, the objective, and the training loop.

It may import core, settings, data, networks and evaluation.
Start with lesson.py, which puts a distillation together, and fit.py, the training loop.
"""
