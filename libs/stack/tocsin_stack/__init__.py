"""Real PostgreSQL and Valkey from wheels, and the launcher of the Tocsin services.

For tests: `postgres.Postgres` and `valkey.Valkey` (servers to kill, pause and restart), `stack.Stack` (everything),
`scratch.scratch` (a folder in memory). For people: `python -m tocsin_stack up | migrate | token`.
Nothing is imported here: a program that wants one server does not pay for gRPC.
"""
