"""Erasure, key rotation, retention and housekeeping."""
