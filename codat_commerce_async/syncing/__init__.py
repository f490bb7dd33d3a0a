"""A sync as a long-running job: start it once, find it again, wait for its end."""
