"""A service as several processes on one port.

Each process is a replica and takes the connections that the kernel gives it (SO_REUSEPORT). Their parent serves no caller: it
starts them, replaces those that end, stops all of them, and shows them to operators in one place.
"""
