"""The moment of use: SQL functions that answer applications, and the lists that they share."""
