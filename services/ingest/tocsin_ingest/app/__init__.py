"""Use cases: each file does what its docstring says and owns its transactions."""
