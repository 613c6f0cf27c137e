"""Fine-tuning on the virtual arm in lock-step time: a policy, a scripted person who steps in, and a learner."""
