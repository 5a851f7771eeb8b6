"""Files that are replaced whole or not at all."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pyg_schnet.files import replacing

ENDLESS = """
import sys
from pyg_schnet.files import replacing
with replacing(sys.argv[1]) as part:
    part.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def write(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    file.write_text("before")

    def interrupted() -> None:
        with replacing(file) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == ["report.md"]
    assert file.read_text() == "before"
    with replacing(str(file)) as part:
        assert part.suffix == ".md"
        part.write_text("after")
    assert [one.read_text() for one in tmp_path.iterdir()] == ["after"]


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "empty.txt"):
        pass
    assert names(tmp_path) == []


def test_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.txt") as first, replacing(tmp_path / "a.txt") as second:
        first.write_text("first")
        second.write_text("second")
        assert first != second
    assert (tmp_path / "a.txt").read_text() == "first"  # which ended last
    assert names(tmp_path) == ["a.txt"]


def test_what_a_killed_writer_left_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDLESS, str(tmp_path / "a.txt")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as killed, subprocess.Popen(command, **pipes) as alive:
        for one in (killed, alive):
            assert one.stdout is not None
            assert one.stdout.readline() == "writing\n"
        killed.kill()
        killed.wait()
        other = tmp_path / ".part-b.txt"
        other.write_text("of another file")
        assert len(names(tmp_path)) == 3
        write(tmp_path / "a.txt", "whole")
        assert len(names(tmp_path)) == 3  # one is gone, the file is new
        assert alive.communicate("")[0] == ""
        assert alive.returncode == 0
    assert names(tmp_path) == [other.name, "a.txt"]
    assert (tmp_path / "a.txt").read_text() == "half"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_the_umask_or_of_the_file_replaced(tmp_path: Path, umask: int) -> None:
    file = tmp_path / "a.txt"

    def private(part: Path) -> None:
        part.touch(mode=0o600)
        part.write_text("as some libraries write")

    before = os.umask(umask)
    try:
        with replacing(file) as part:
            private(part)
        assert mode(file) == 0o666 & ~umask
        file.chmod(0o640)
        with replacing(file) as part:
            private(part)
        assert mode(file) == 0o640
    finally:
        os.umask(before)


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "latest.txt"
    link.symlink_to(Path("real") / "a.txt")
    write(link, "first")  # it leads nowhere yet
    write(link, "second")
    assert link.is_symlink()
    assert (tmp_path / "real" / "a.txt").read_text() == "second"
    assert names(tmp_path / "real") == ["a.txt"]


def test_devices_are_written_themselves() -> None:
    write(Path(os.devnull), "nothing")
    assert not Path(os.devnull).is_file()


def test_a_long_name(tmp_path: Path) -> None:
    file = tmp_path / ("a" * 240 + ".safetensors")
    with replacing(file) as part:
        assert part.suffix == ".safetensors"
        part.write_text("text")
    assert names(tmp_path) == [file.name]


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder"), replacing(tmp_path):
        pass
    with pytest.raises(FileNotFoundError, match=r"there is no folder .* to write a\.txt into"):
        write(tmp_path / "none" / "a.txt", "")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError(
            "[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file data/0: file write failed"
        ),
    ],
)
def test_a_full_disk_is_one_sentence(tmp_path: Path, error: Exception) -> None:
    def full() -> None:
        with replacing(tmp_path / "a.txt") as part:
            part.write_text("half")
            raise error

    with pytest.raises(OSError, match="there is no space left for") as caught:
        full()
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    def wrong() -> None:
        with replacing(tmp_path / "a.txt"):
            raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        wrong()
