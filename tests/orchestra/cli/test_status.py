from orchestra.cli.status import status_text, table


def test_columns_are_as_wide_as_their_cells() -> None:
    assert table(("a", "bb"), [("long", "x")]) == ["a     bb", "long  x"]


def test_text_shows_nodes_and_transfers() -> None:
    text = status_text(
        {
            "nodes": {"n1": {"address": "127.0.0.1:7", "host": "h" * 40, "state": "joined"}},
            "transfers": {
                "x": {
                    "kind": "broadcast",
                    "mechanism": "",
                    "state": "waiting",
                    "progress": 0.5,
                    "failed": {"n9": "lost"},
                }
            },
            "policy": "fair",
        }
    )
    assert "policy fair" in text
    assert "n1    joined  127.0.0.1:7" in text
    assert "waiting  50%       n9: lost" in text


def test_text_of_an_empty_cluster_says_so() -> None:
    text = status_text({"nodes": {}, "transfers": {}, "policy": "fair"})
    assert "no nodes" in text
    assert "no transfers" in text
