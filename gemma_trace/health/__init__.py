"""What is wrong with a trace: `examine` gathers findings, one file a kind."""
