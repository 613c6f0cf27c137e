"""The sequence actor and its critics: what they are built from and what they compute."""
