"""What every other room stands on: errors, artifacts, the store on disk, processes, and where data folders lie.

It imports the standard library alone, and Accelerate where several processes share a build.
Start with artifacts.py, which holds everything that flows from stage to stage, and errors.py.
"""
