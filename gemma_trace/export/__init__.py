"""A trace → files that viewers open without loss. Free of torch."""
