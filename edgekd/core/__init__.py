"""The base of all rooms: errors, artifacts, records, plug-ins, the store, the data folders.

It imports the standard library and msgspec, and no other room.
Start with artifacts.py, which defines what flows from stage to stage, then errors.py.
"""
