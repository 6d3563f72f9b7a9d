#!/bin/sh
# Measures the models of this folder on this board. Type:  sh run.sh
# PYTHON=/path/to/python3 sh run.sh   uses another Python.
cd "$(dirname "$0")" || exit 3
python=${PYTHON:-}
if [ -z "$python" ] && [ -x .venv/bin/python3 ]; then
    python=.venv/bin/python3
fi
python=${python:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "This board has no program named $python, which the measurement needs."
    echo "Connect the board to the internet, and type these two lines:"
    echo
    echo "    sudo apt install python3 python3-venv"
    echo "    sh run.sh"
    exit 3
fi
exec "$python" -I run.py "$@"
