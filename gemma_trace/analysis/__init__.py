"""Columns → statistics. Free of torch."""
