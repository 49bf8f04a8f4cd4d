"""What the tests of benchmark scripts have in common. Not a test."""

from collections.abc import Callable, Sequence

import pytest

from examples.benchmarks import figures
from examples.benchmarks.emulation import why_not
from examples.benchmarks.systems.orchestra_nodes import Timing

NEEDS_HOSTS = pytest.mark.skipif(why_not() is not None, reason=f"no emulated hosts: {why_not()}")

Main = Callable[[Sequence[str]], int]


def check_refused(main: Main, wrong: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The script ends with status 2 and names the first argument."""
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def check_needs_hosts(
    main: Main, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where hosts cannot be emulated the script ends with status 2 and says why."""
    monkeypatch.setattr(figures, "why_not", lambda: "network namespaces need root")
    assert main([]) == 2
    assert "network namespaces need root" in capsys.readouterr().err


def made_timing(elapsed_s: float, received_s: dict[str, float] | None = None) -> Timing:
    """A broadcast that began at 100 s of the clock."""
    received_s = received_s or {"h1": elapsed_s}
    return Timing(
        elapsed_s=elapsed_s,
        completion_s=elapsed_s - 0.1,
        reason="",
        began_s=100.0,
        mechanism="cornet",
        block_size_bytes=131_072,
        node_completion_s=received_s,
        failed={},
        received_s={name: 100.0 + at_s for name, at_s in received_s.items()},
    )
