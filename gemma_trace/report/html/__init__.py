"""One HTML file that shows a run, several, or two side by side, and needs nothing but itself.

`build.py` turns traces into `RunView`s (`model.py`), `page.py` turns those into HTML; what lies between, geometry
(`charts.py`), names (`text.py`) and definitions (`definitions.py`), knows no trace.
"""
