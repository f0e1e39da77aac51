"""Texts that a language model writes about lists and items, if operators want them.

A model is told titles, attributes, reasons and phrases, and neither ids nor comments. A guard refuses what it
was not told; where there is no text, `serving.summary` and `serving.item_summary` answer from templates.
"""
