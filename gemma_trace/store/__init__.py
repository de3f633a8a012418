"""A store: what many traces say, summed up in small Parquet files in a folder or behind a URL."""
