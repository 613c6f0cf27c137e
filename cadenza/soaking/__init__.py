"""A long run under everything at once, and whether anything grew, was lost, or got later meanwhile."""
