"""One rule a file: a function `_look` and its `RULE`."""
