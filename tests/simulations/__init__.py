"""Simulations in virtual time and with real processes, which can be run by hand at any size."""
