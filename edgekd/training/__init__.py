"""Training: views of images, losses and their adapters, the objective, and the training loop.

It may import core, settings, data, networks and evaluation.
Start with lesson.py, which puts a distillation together, and fit.py, the training loop.
answer_cache.py fills the cache of the teachers' answers, and cached_answers.py reads it.
"""
