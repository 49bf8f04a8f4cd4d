import subprocess
import sys

import pytest

from orchestra.cli import arguments as converters
from orchestra.cli import main
from orchestra.cli.main import make_parser
from schedulers import POLICIES
from tests.orchestra.cli.commands import ROOT, one_line

AT = ["--controller", "127.0.0.1:7000"]
BROADCAST = ["broadcast", *AT, "--file", "f"]
SHUFFLE = ["shuffle", *AT, "--matrix", "m.json"]
CONTROLLER = ["controller", "--listen", "127.0.0.1:0"]


def complaint(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """What is said of wrong usage; the status must be 2 and stdout empty."""
    try:
        status: object = main(arguments)
    except SystemExit as ended:
        status = ended.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    return one_line(captured.err)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "COMMAND"),
        (["fly"], "fly"),
        (["controller"], "--listen"),
        (["controller", "--listen", "7000"], "--listen"),
        ([*CONTROLLER, "--policy", "random"], "--policy"),
        ([*CONTROLLER, "--enforcement", "hope"], "--enforcement"),
        ([*CONTROLLER, "--topology", "racks.json"], "--topology"),
        (["topology"], "--controller"),
        (["topology", *AT, "--probe-size", "0"], "--probe-size"),
        (["policy", *AT], "name"),
        (["policy", *AT, "random"], "name"),
        (["pause", *AT], "--transfer"),
        (["resume", *AT], "--transfer"),
        ([*CONTROLLER, "--port-rate", "400"], "--port-rate"),
        ([*CONTROLLER, "--heartbeat-timeout", "0"], "--heartbeat-timeout"),
        ([*CONTROLLER, "--quiet", "--verbose"], "--verbose"),
        (["agent", *AT], "--name"),
        (["agent", *AT, "--name", "a,b"], "--name"),
        (["agent", *AT, "--name", "a", "--store-limit", "0"], "--store-limit"),
        (["agent", *AT, "--name", "a", "--listen", "::1:70"], "--listen"),
        (["agent", "--controller", "127.0.0.1:0", "--name", "a"], "--controller"),
        (["broadcast", *AT], "--file"),
        ([*BROADCAST, "--transfer", "../up"], "--transfer"),
        ([*BROADCAST, "--transfer", "/top"], "--transfer"),
        ([*BROADCAST, "--transfer", "a\0b"], "--transfer"),
        ([*BROADCAST, "--to", ""], "--to"),
        ([*BROADCAST, "--to", "n1,,n2"], "--to"),
        ([*BROADCAST, "--wait-for", "0"], "--wait-for"),
        ([*BROADCAST, "--wait-for", "many"], "--wait-for"),
        ([*BROADCAST, "--mechanism", "pigeon"], "--mechanism"),
        ([*BROADCAST, "--block-size", "0"], "--block-size"),
        ([*BROADCAST, "--block-size", "-1"], "--block-size"),
        ([*BROADCAST, "--timeout", "0"], "--timeout"),
        ([*BROADCAST, "--timeout", "inf"], "--timeout"),
        ([*BROADCAST, "--priority", "high"], "--priority"),
        ([*BROADCAST, "--priority", "1.5"], "--priority"),
        ([*BROADCAST, "--weight", "0"], "--weight"),
        ([*SHUFFLE, "--weight", "-1"], "--weight"),
        ([*BROADCAST, "--weight", "nan"], "--weight"),
        ([*BROADCAST, "--mech", "tree"], "--mech"),
        ([*SHUFFLE, "--scheduling", "lottery"], "--scheduling"),
        (["receive", *AT, "--transfer", "x"], "--output"),
        (["demo", "--size", "0"], "--size"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_argument(
    capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    assert named in complaint(capsys, arguments)


def test_options_mean_what_the_contract_says() -> None:
    options = make_parser().parse_args(
        [
            *BROADCAST,
            "--to",
            "n2,n1,n2",
            "--block-size",
            "256KiB",
            "--listen",
            "127.0.0.1",
            "--timeout",
            "2.5",
        ]
    )
    assert options.to == ("n2", "n1")
    assert options.block_size == 262_144
    assert options.listen == "127.0.0.1:0"
    assert (options.timeout, options.priority, options.weight) == (2.5, 0, 1.0)
    assert (options.mechanism, options.transfer, options.json) == ("auto", None, False)
    options = make_parser().parse_args([*CONTROLLER, "--port-rate", "400Mbit"])
    assert options.port_rate == 50e6
    assert options.heartbeat_timeout == 15
    assert make_parser().parse_args(BROADCAST).timeout == 60


def test_nodes_named_and_a_number_to_wait_for_go_together() -> None:
    options = make_parser().parse_args([*BROADCAST, "--to", "n1", "--wait-for", "2"])
    assert (options.to, options.wait_for) == (("n1",), 2)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for command in ("controller", "agent", "broadcast", "receive", "release", "shuffle", "status", "demo"):
        assert command in text


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("orchestra ")


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from orchestra.cli import main\n"
        "try:\n    main(['broadcast', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'trio', 'numpy', 'sklearn', 'matplotlib', 'tqdm'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_policies_that_may_be_named_are_those_that_there_are() -> None:
    assert tuple(POLICIES) == converters.POLICIES
