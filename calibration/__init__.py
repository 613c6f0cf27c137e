"""Joint homing and range, kept per arm."""
