"""Writes a trace as files that viewers open without loss. Imports no torch."""
