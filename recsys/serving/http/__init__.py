"""`recsys serve`: the reading functions and the intake of feedback over HTTP."""
