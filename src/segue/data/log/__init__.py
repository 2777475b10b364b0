"""What happened: an event log read from files and tables, its splits and its ratings."""
