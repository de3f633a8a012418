"""What a request would take if parts of it took less: its dependency graph, replayed."""
