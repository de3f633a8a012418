"""Statistics → tables, files, pictures. Free of torch."""
