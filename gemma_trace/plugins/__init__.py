"""What servers load into their processes: our ranges and times in there. Off unless an environment variable is set.

It imports neither torch nor a server by itself.
"""
