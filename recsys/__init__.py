"""A language-model recommender that keeps learning from its users' feedback.

One sub-package per stage of the loop; importing this package loads none of the heavy libraries.
"""
