"""The processes a supervisor starts: control, inference, cameras, recorder."""
