"""Which names nodes and transfers may have. Checked on every side, since names become file names."""

from transfers.ids import NodeName, TransferName

MAX_NODE_NAME_BYTES = 255
"""Room for any host's name (253 in DNS, RFC 1035); two and a slash, which name a partition, fit a message's
text field of 1,024 characters."""
MAX_TRANSFER_NAME_BYTES = 1000
"""Below the 1,024 characters of a message's text field, and with a folder in front below PATH_MAX."""
_MAX_PART_BYTES = 255
"""Longest file name on the usual file systems."""


def node_name(text: str) -> NodeName:
    """Check a node's name.

    Raises:
        ValueError: when it is empty, too long, or holds a comma, a slash, white space or a control
            character.
    """
    if not text or len(text.encode(errors="replace")) > MAX_NODE_NAME_BYTES:
        raise ValueError(f"node name must have 1 to {MAX_NODE_NAME_BYTES} bytes, got {text[:40]!r}")
    if any(char in ",/" or char.isspace() or not char.isprintable() for char in text):
        raise ValueError(f"node name must not hold commas, slashes, spaces or controls, got {text!r}")
    return NodeName(text)


def transfer_name(text: str) -> TransferName:
    """Check a transfer's name: a relative path without ``..``.

    Raises:
        ValueError: when it is empty, too long, absolute, has an empty, ``.`` or ``..`` part, or holds a
            control character.
    """
    if not text or len(text.encode(errors="replace")) > MAX_TRANSFER_NAME_BYTES:
        raise ValueError(f"transfer name must have 1 to {MAX_TRANSFER_NAME_BYTES} bytes, got {text[:40]!r}")
    if any(not char.isprintable() for char in text):
        raise ValueError(f"transfer name must not hold control characters, got {text!r}")
    for part in text.split("/"):
        if part in ("", ".", ".."):
            raise ValueError(f"transfer name must be a relative path without '..', got {text!r}")
        if len(part.encode()) > _MAX_PART_BYTES:
            raise ValueError(
                f"a part of a transfer name has at most {_MAX_PART_BYTES} bytes, got {part[:40]!r}"
            )
    return TransferName(text)
