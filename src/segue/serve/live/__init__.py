"""Events in, states on: the service without HTTP."""
