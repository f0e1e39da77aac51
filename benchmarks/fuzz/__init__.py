"""Compare what the product makes of mutated inputs with an independent statement of the rules."""
