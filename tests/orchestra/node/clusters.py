"""A controller and several nodes in one trio run, over real TCP on loopback."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio

from orchestra.controller.serving import serve_controller
from orchestra.node.joining import join
from orchestra.node.node import Node

STORE_BYTES = 64 << 20


@asynccontextmanager
async def cluster(
    *names: str, share: bool = False, limit_s: float = 30.0, token: str | None = None, **controller: Any
) -> AsyncIterator[list[Node]]:
    """A cluster with a node of each name; everything in it must end within ``limit_s``."""
    with trio.fail_after(limit_s):
        async with AsyncExitStack() as stack:
            serving = serve_controller(token=token, seed=1, **controller)
            address = (await stack.enter_async_context(serving)).address
            nodes = [
                await stack.enter_async_context(
                    join(address, name=name, share=share, token=token, store_limit=STORE_BYTES)
                )
                for name in names
            ]
            yield nodes


def address_of(node: Node) -> str:
    """The controller's, as a node knows it."""
    return node._member.link.address
