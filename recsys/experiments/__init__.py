"""Users decide between models: assignment, sequential tests, readouts."""
