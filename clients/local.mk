# The clients of the daemon.
