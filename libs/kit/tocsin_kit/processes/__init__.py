"""A service as several processes on one port.

Each process is a replica and gets connections from the kernel (SO_REUSEPORT). Their parent serves no caller: it starts them,
replaces those that end, stops all of them, and has the operators' listener for all of them.
"""
