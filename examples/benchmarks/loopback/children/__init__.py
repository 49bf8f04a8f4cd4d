"""Processes of the loopback benchmarks; they answer in lines of JSON."""
