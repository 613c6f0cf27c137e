"""Dynamixel servos as they answer on the wire: packets, control tables, behaviour, bus timing, faults."""
