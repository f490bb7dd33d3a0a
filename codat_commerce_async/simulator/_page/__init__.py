"""The page that shows a simulator in a browser."""
