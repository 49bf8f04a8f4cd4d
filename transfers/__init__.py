"""Blocks, the wire, the planners of each mechanism, and the one engine that moves bytes.

Knows nothing of scheduling policy or of the controller.
"""
