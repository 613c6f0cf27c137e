"""Front door: the commands, and the robot file turned into objects."""
