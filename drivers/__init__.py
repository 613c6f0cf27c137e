"""Arms and cameras behind small contracts."""
