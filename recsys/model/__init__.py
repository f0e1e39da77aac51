"""The recommender: text encoder, item vectors, causal user encoder, heads."""
