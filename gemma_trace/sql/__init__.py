"""SQL on traces and stores: their tables as views over Arrow, in a DuckDB that reaches nothing else."""
