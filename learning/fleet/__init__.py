"""Robots and a learner on different machines: episodes go one way, bundles the other, over HTTP."""
