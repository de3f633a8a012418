"""What to change so that requests take less time, and what it would bring at most."""
