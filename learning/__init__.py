"""The sequence actor and how it is trained."""
