"""The API's operations, one module per resource: a table of endpoints and a class of coroutines."""
