"""Holistic Trace Analysis on a trace of ours or of others, beside our own figures.

`copies.py` writes what HTA is given, `runner.py` runs it in a process of its own that `process.py` starts,
`figures.py` reads its results, `compare.py` sets our own beside them, and `run.py` is all of that for a trace.
"""
