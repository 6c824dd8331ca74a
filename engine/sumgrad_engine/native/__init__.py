"""The compiler: graphs to machine code. The only part of the engine that knows LLVM."""
