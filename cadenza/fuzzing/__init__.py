"""Bytes that nobody would write, for everything here that reads what others wrote."""
