"""What every request passes: limits, keys, bodies, problems."""
