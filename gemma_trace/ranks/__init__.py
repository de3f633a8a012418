"""Jobs of many ranks: which is late, what the others wait for, and what a request would take without it."""
