"""What the analysis found → `Report`: which columns a person sees, and in what order they go when room is short."""
