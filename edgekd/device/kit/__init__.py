"""`edgekd bench --kit`: one folder that a person with a board runs without knowing Python, and the
one file that it gives back.

    folder.py      the files of the kit
    run.sh         what the person types; it looks for a Python
    run.py         runs on the board, alone: measures every model, and writes the result
    wheels.py      numpy and the runtime for the board's Python, for a board without a network
    result.py      reads the file that comes back
"""
