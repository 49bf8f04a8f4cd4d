"""The host block store: objects in memory that any number of processes of a host map.

`Store` keeps objects, `attach` maps another process's; serving a store needs trio and is in
`transfers.store.sharing`, which is not imported here.
"""

from transfers.store.attach import Attachment, attach
from transfers.store.protocol import host_id
from transfers.store.store import Store, StoreStatistics
from transfers.store.stored import StoredObject
from transfers.store.view import ObjectView

__all__ = [
    "Attachment",
    "ObjectView",
    "Store",
    "StoreStatistics",
    "StoredObject",
    "attach",
    "host_id",
]
