"""The contract shared by robot and learner: joints, units, observations, actions, chunks, bundles."""
