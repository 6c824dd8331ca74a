"""Training runs: parameters, an optimiser's state and a step number, and members on many machines that train them together."""
