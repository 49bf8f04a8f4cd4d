"""The host block store: objects in memory that any number of processes of a host map.

`Store` keeps objects; `transfers.store.attach` maps those of another process. Serving a store needs trio and
is in `transfers.store.sharing`, which is not imported here.
"""

from transfers.store.attach import Attachment
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
    "host_id",
]
