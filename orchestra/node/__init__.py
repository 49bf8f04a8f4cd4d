"""A member of the cluster: its link to the controller, its objects, and what users call."""
