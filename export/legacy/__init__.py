"""Checkpoints of the LeRobot fork that the sequence actor comes from: read, reproduced, exported, converted."""
