"""Shares of the structures to predict, one for each of several processes that know nothing of each other."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

#: What torchrun and Slurm say of a process: its number from 0, and of how many it is one.
_TORCHRUN, _SLURM = ("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")
_ARRAY = "SLURM_ARRAY_TASK_"


class Shard(NamedTuple):
    """A share.

    Attributes:
        number: Which one, from 1.
        of: Of how many.
        told_by: Who said so, empty for the user.
    """

    number: int = 1
    of: int = 1
    told_by: str = ""

    def places(self, total: int) -> range:
        """The structures of this share.

        Args:
            total: Number of all structures.

        Returns:
            Their places; shares follow each other and differ by one structure at most.

        Example:
            >>> [Shard(number, 3).places(7) for number in (1, 2, 3)]
            [range(0, 2), range(2, 4), range(4, 7)]
        """
        return range(total * (self.number - 1) // self.of, total * self.number // self.of)

    def path(self, output: Path) -> Path:
        """The file of this share.

        Args:
            output: The file for all structures.

        Returns:
            The same where there is but one share; else with the share in its name.

        Example:
            >>> Shard(3, 16).path(Path("out.csv")).name
            'out.shard-03-of-16.csv'
        """
        if self.of == 1:
            return output
        digits = len(str(self.of))
        return output.with_name(f"{output.stem}.shard-{self.number:0{digits}}-of-{self.of}{output.suffix}")


def shard_of(given: str | None, environment: Mapping[str, str] | None = None) -> Shard:
    """The share of this process.

    Args:
        given: ``"3/16"`` for the third of sixteen; ``None`` for what torchrun (``RANK``, ``WORLD_SIZE``) or Slurm
            (``SLURM_PROCID`` and ``SLURM_NTASKS`` of a job step, ``SLURM_ARRAY_TASK_...`` of an array of jobs, or both)
            say in the environment, all structures without them.
        environment: The environment; that of this process by default.

    Returns:
        The share.

    Raises:
        ValueError: If ``given`` is no share, or the environment contradicts itself.

    Example:
        >>> shard_of("3/16")[:2], shard_of(None, {"RANK": "0", "WORLD_SIZE": "2"})[:2]
        ((3, 16), (1, 2))
    """
    if given is not None:
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", given)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"--shard must be I/N with I from 1 to N, such as 3/16, got {given!r}")
        return Shard(int(match[1]), int(match[2]))
    environment = os.environ if environment is None else environment
    if set(_TORCHRUN) <= environment.keys():
        return _checked(*_numbers(environment, _TORCHRUN), "torchrun")
    rank, size, said = 0, 1, ""
    if f"{_ARRAY}ID" in environment and f"{_ARRAY}COUNT" in environment:
        number, size = _numbers(environment, (f"{_ARRAY}ID", f"{_ARRAY}COUNT"))
        first, step = (
            int(environment.get(f"{_ARRAY}{name}", default)) for name, default in (("MIN", "0"), ("STEP", "1"))
        )
        rank, said = (number - first) // max(step, 1), "an array of Slurm"
    if set(_SLURM) <= environment.keys():
        task, tasks = _numbers(environment, _SLURM)
        rank, size, said = rank * tasks + task, size * tasks, said or "Slurm"
    return _checked(rank, size, said)


@contextmanager
def alone() -> Iterator[None]:
    """Inside, nothing in the environment tells of other processes: shares need none, and Lightning would wait for them.

    Example:
        >>> with alone():
        ...     "RANK" in os.environ
        False
    """
    hidden = {name: value for name, value in os.environ.items() if name.startswith("SLURM_") or name in _LAUNCHERS}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


#: What Lightning knows the processes of torchrun by.
_LAUNCHERS = {*_TORCHRUN, "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "TORCHELASTIC_RUN_ID", "MASTER_ADDR"}


def _numbers(environment: Mapping[str, str], names: tuple[str, str]) -> tuple[int, int]:
    try:
        return int(environment[names[0]]), int(environment[names[1]])
    except ValueError:
        said = ", ".join(f"{name}={environment[name]!r}" for name in names)
        raise ValueError(f"the environment has {said}, expected two numbers; name the share with --shard I/N") from None


def _checked(rank: int, size: int, said: str) -> Shard:
    if not 0 <= rank < size:
        raise ValueError(
            f"{said} says that this is process {rank}, from 0, of {size}, which cannot be; name it with --shard I/N"
        )
    return Shard(rank + 1, size, said if size > 1 else "")
