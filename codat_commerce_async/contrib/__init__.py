"""What ties a client to other libraries, each in a module and behind an extra of its own."""
