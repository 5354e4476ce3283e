"""Strongroom: a self-hosted vault for personal records."""

__version__ = "0.4.0"
