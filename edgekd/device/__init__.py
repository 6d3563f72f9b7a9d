"""Measuring a model on a device: the runner that is sent there, and the transports that reach it.

This room imports core and settings; edgebench.py and agent.py run on devices and import nothing of
edgekd. Start reading with bench.py.
"""
