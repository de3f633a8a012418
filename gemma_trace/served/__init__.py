"""Requests to a server: driven and timed from outside, and traced in the server's processes, on one clock.

`record.py` is what the client saw; `merge.py` puts it and the processes' traces into one trace.
"""
