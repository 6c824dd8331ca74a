"""The gradient service: a gRPC front, worker processes, and the state machine that keeps them honest. Start it with `sumgrad serve`."""
