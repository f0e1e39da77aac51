"""Simulated users with known preferences, to check estimators and to compare policies in a closed loop."""
