"""Fixtures of the rooms whose commands are tested here."""

from tests.publishing.conftest import empty_shop, shop
from tests.validation.conftest import next_window, stocked

__all__ = ["empty_shop", "next_window", "shop", "stocked"]
