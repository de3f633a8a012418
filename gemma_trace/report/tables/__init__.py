"""One file per table: its columns, each declared once, and how what the analysis found becomes its rows."""
