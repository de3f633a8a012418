"""Shows a trace in the Perfetto UI. Imports no torch."""
