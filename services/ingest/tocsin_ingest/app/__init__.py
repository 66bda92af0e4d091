"""Use cases: each file reads as the sentence of its docstring and owns its transactions."""
