"""The parsers that are tried, each with what it is fed."""
