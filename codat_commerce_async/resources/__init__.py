"""The API's operations, one module per resource: a table of endpoints and a class of coroutines.

A new endpoint takes an `Operation` and a method here, its models in `models/`, a route in `simulator/_api/routes.py`
with a handler, and rows in the tables of the tests, which fail without them. `docs/contributing.md` lists the steps.
"""
