"""Collecting episodes: demonstrations by a person, or a policy's runs with a person stepping in."""
