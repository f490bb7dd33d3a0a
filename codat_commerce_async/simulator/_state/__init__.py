"""What the simulated Codat holds: companies, connections, configurations, syncs, quota, and the time."""
