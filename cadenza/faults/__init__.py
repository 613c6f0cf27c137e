"""The fault campaign: everything that can go wrong goes wrong, at random, and what the arm did is judged by rules."""
