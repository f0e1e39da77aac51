"""Erasure, key rotation, restore, retention and housekeeping."""
