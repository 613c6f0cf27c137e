"""The virtual arm: real bytes on a pseudo-terminal, physics, cameras."""
