"""Offline work on a store: import, export, lists for all users, retraining."""
