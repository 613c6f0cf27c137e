"""A run as a service of the machine: the unit that starts it, and what is different while nobody sits in front."""
