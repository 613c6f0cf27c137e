"""The virtual arm in real time: physics, pseudo-terminals, camera streams and the control socket."""
