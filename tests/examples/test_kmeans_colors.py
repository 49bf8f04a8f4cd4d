"""The example on the photograph, with few colours."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples import kmeans_colors


def read(path: Path) -> kmeans_colors.Picture:
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_pictures_are_written_and_scikit_learn_agrees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "folder"
    options = "--workers 2 --k 8 --iterations 3 --output"
    assert kmeans_colors.main([*options.split(), str(folder)]) == 0
    before, after = read(folder / "before.png"), read(folder / "after.png")
    assert before.shape == after.shape == (427, 640, 3)
    assert read(folder / "before_and_after.png").shape == (427, 2 * 640 + kmeans_colors.GAP_PIXELS, 3)
    assert min(read(folder / "kmeans.png").shape[:2]) > 600
    assert len(np.unique(after.reshape(-1, 3), axis=0)) == 8
    assert np.sqrt(((before.astype(float) - after) ** 2).sum(axis=2).mean()) < 40
    printed = capsys.readouterr().out
    assert "273,280 pixels to 8 colours with 2 workers" in printed
    assert "scikit-learn from the same start" in printed
    assert "pixels changed" not in printed  # progress is for terminals


def test_bad_arguments_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kmeans_colors.main(["--k", "0", "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "kmeans_colors: k must be at least 1, got 0\n"
