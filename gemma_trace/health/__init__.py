"""What is wrong with a trace: `examine` gathers findings, with one file per kind."""
