"""The method made visible: what a gradient, a gate and a memory do, as numbers and as figures."""
