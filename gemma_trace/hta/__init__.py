"""Holistic Trace Analysis on a trace of ours or of others, beside our own figures.

`copies.py` writes what HTA is given, `in_child.py` runs it in a process of its own that `child_process.py` starts,
`figures.py` reads its results, `beside_ours.py` sets our own beside them, and `run.py` is all of that for a trace.
"""
