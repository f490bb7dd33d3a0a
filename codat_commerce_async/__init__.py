"""Async-first client for Codat's Sync for Commerce API."""
