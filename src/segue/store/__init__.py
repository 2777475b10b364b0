"""Durable events and states. Knows no HTTP."""
