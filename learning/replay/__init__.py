"""Experience on disk: rows cut from episodes, stores of a day of them, and the batches drawn from those."""
