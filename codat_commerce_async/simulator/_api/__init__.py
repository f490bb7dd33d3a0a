"""Codat's API as a function from a request to a response: routes, handlers, idempotency, faults."""
