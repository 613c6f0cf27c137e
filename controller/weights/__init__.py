"""Which bundle drives a run, as the supervisor has it: follow a shelf, hear the operator, tell inference."""
