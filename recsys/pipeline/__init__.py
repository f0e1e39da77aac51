"""The stages of the loop: their context, what they pass on, and their order."""
