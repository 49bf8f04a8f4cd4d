"""Orchestra itself: each mechanism, and its own choice among them.

Owns how Orchestra is set; its processes are those of `orchestra_nodes`. Must not know what else it is
compared with.

How it is set. `orchestra controller` runs on the source's host, as where it is embedded, and shares that
host's link. It is told nothing of links. Where it has to choose it learns from the broadcast that does not
count, which it makes in blocks for links of 1 Gbit/s. Single mechanisms get their block size. Every host runs
one node that shares no memory with others (`share=False`). The source hands over an array in its memory, and
every receiver waits in `receive`; the time is from the call of `broadcast` to the last return from `receive`.
That is some hundredths of a second more than the library's own ``completion_s``: the proposal and the
source's checksums before, the hand-over after. Blocks are verified within that time.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from examples.benchmarks.systems.orchestra_nodes import OrchestraNodes
from orchestra.units import format_block_size

if TYPE_CHECKING:
    from examples.benchmarks.emulation import EmulatedCluster


@dataclass(frozen=True, slots=True)
class Orchestra:
    """Orchestra by one mechanism.

    Attributes:
        mechanism: as `Node.broadcast` takes it.
        block_size_bytes: None for the library's choice.
    """

    mechanism: str
    block_size_bytes: int | None = None

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"Orchestra, {self.mechanism}"

    @property
    def how(self) -> str:
        """How it is set."""
        size = self.block_size_bytes
        blocks = "blocks as it chooses" if size is None else f"blocks of {format_block_size(size)}"
        chosen = "its own choice of mechanism" if self.mechanism == "auto" else f"mechanism {self.mechanism}"
        learns = "; the controller is told nothing of links and learns from one broadcast before"
        return f"{chosen}, {blocks}{learns if size is None else ''}"

    def missing(self) -> str | None:
        """Never: it is this project."""
        return None

    def broadcast(
        self, cluster: "EmulatedCluster", size_bytes: int, repeats: int, timeout_s: float
    ) -> list[float]:
        """See `System.broadcast`."""
        with ExitStack() as stack:
            nodes = OrchestraNodes(cluster, stack)
            return [
                nodes.broadcast(f"round-{turn}", self, size_bytes, timeout_s).elapsed_s
                for turn in range(repeats + 1)
            ][1:]


BLOCK_BYTES = dict.fromkeys(("cornet", "chain", "tree", "hdfs"), 256 << 10)
"""For single mechanisms. Cornet to 16 at 50 Mbit/s took 1.042 x S/W by 128 KiB, 1.039 to 1.044 by 256 and
1.049 by 512; blocks are passed on in parts of 32 KiB or more in any case."""

SYSTEMS = (
    *(Orchestra(mechanism, block_size_bytes) for mechanism, block_size_bytes in BLOCK_BYTES.items()),
    Orchestra("auto"),
)
