"""Files that are replaced whole or not at all."""

from pathlib import Path

import pytest

from pyg_schnet.files import replacing


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    file.write_text("before")

    def interrupted() -> None:
        with replacing(file) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [one.name for one in tmp_path.iterdir()] == ["report.md"]
    assert file.read_text() == "before"
    with replacing(str(file)) as part:
        assert part.suffix == ".md"
        part.write_text("after")
    assert [one.read_text() for one in tmp_path.iterdir()] == ["after"]


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "empty.txt"):
        pass
