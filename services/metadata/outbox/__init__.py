"""The outbox: what it says, and how that reaches the broker."""
