"""Hypothesis strategies for what policies are shown."""

from hypothesis import strategies as st

from schedulers import Direction, NodeId, Port, Snapshot, TransferId

ports = st.builds(Port, st.sampled_from([NodeId(f"n{i}") for i in range(5)]), st.sampled_from(Direction))
transfers = st.sampled_from([TransferId(f"t{i}") for i in range(6)])


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Up to ten ports, some without a limit, some idle, with up to six transfers on each."""
    capacities = draw(st.dictionaries(ports, st.none() | st.floats(1.0, 1e11), max_size=10))
    active = {
        port: tuple(draw(st.lists(transfers, unique=True, max_size=6)))
        for port in capacities
        if draw(st.booleans())
    }
    return Snapshot(capacities, active)
