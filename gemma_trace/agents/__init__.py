"""For agents: a server of the Model Context Protocol whose tools read traces, and a skill that says how to use them."""
