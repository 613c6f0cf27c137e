"""Protobuf schema of the log. ``*_pb2`` files are generated; see ``generate``."""
