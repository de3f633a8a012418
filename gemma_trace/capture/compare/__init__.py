"""Configurations against each other, interleaved: a process per configuration and round, in an order drawn by lot."""
