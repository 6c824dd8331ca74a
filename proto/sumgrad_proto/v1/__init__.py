"""Version 1 of the protocol: wire package sumgrad.v1."""
