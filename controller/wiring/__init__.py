"""How the processes of a run are joined: shared memory, orders by pipe, placement on cores."""
