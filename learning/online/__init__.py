"""The learner that goes on while the robot works: takes in episodes, updates, publishes weights, survives a kill."""
