"""Off-policy evaluation on logged slates."""
