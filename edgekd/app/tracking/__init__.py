"""`--track NAME`: the settings, figures and files of a build or a search in an experiment tracker.

Start with kept.py, which a build uses. tracker.py says what a tracker is, background.py keeps a
tracker that fails or is slow away from the work, and there is one file for each tracker.
"""
