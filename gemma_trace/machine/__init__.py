"""What this machine can do: what a capture finds on it, and the peak rates that it reaches."""
