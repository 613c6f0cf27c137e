"""What is wrong with this machine and this arm before anything moves, and what to type about it."""
