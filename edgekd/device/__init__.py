"""Running a model on a device: the runner that is sent there, and ssh, adb and emulator to reach
it.

It may import core and settings; edgebench.py and agent.py are sent to devices and import nothing of
edgekd. Start with bench.py.
"""
