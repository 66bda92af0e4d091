"""A whole Tocsin for tests: real stores, real services, people with real mailboxes, and a clock that can be moved."""
