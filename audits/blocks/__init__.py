"""Where in the network the leak shows: signals of every transformer block."""
