"""The web server of the example application: see `examples/web_app.py`."""
