"""One module a command; cadenza.cli lists them."""
