"""Measurements to be made by hand."""
