"""Users whose preferences are known, so that estimates and policies can be held against the truth."""
