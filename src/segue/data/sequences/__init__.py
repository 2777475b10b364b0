"""What the network reads: each user's events in time order, as arrays."""
