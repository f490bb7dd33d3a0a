"""The HTML page of `report --html`: `page.py` renders it, `charts.py` draws its charts."""
