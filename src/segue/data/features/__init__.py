"""What things are: attributes of items, of users and of events become arrays."""
