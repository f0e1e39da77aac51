"""The fault run: hours of the learning loop in which everything breaks that can break."""
