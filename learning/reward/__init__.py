"""A reward seen in pictures: a small classifier trained from labelled episodes."""
