"""The controller: one inter-transfer controller above one transfer controller for each transfer."""
