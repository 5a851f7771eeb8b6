"""The time between the frames of a trajectory."""

import warnings

from pyg_schnet.analysis.checks import positive
from pyg_schnet.analysis.structure.snapshot import Snapshot


class Clock:
    """Finds the time between frames, and sees that it stays the same.

    Args:
        timestep: Time between frames in fs, ``None`` for that of the file.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not positive.

    Example:
        >>> Clock(0.5).timestep()
        0.5
    """

    def __init__(self, timestep: float | None) -> None:
        self.given = None if timestep is None else positive("timestep", timestep, "the time between frames in fs")
        self.told: float | None = None
        self.first: float | None = None
        self.last: float | None = None
        self.number = 0

    def tick(self, snapshot: Snapshot) -> None:
        """Look at the time of the next frame.

        Raises:
            ValueError: If no time step is given and frames are not equally far apart.
        """
        now, before = snapshot.time, self.last
        self.last, self.number = now, self.number + 1
        if self.number == 1:
            self.first = now
        if now is None or before is None:
            return
        step = now - before
        if self.told is None:
            self.told = step
        if self.given is not None:
            return
        slack = 0.01 * abs(self.told) + 1e-9 * abs(now)  # times are often printed with few digits
        if step <= 0 or abs(step - self.told) > slack:
            raise ValueError(
                f"frame {self.number - 1} comes {step:g} fs after the one before it, earlier ones {self.told:g} fs; "
                "expected equal times between frames, or their distance as `timestep`"
            )

    def timestep(self) -> float:
        """The time between frames in fs.

        Returns:
            The one given, or that of the file.

        Raises:
            ValueError: If there is neither.
        """
        if self.given is None:
            if self.told is not None:
                return self._mean(self.told)
            raise ValueError(
                "the trajectory does not tell the times of its frames; pass `timestep`, the time between frames in fs"
            )
        if self.told is not None and abs(self.told - self.given) > 0.01 * self.given:
            warnings.warn(
                f"the frames are {self.told:g} fs apart by their own times, {self.given:g} fs by `timestep`, which is "
                "taken; it must be the time between frames, not that of a step of the simulation",
                stacklevel=3,
            )
        return self.given

    def _mean(self, told: float) -> float:
        """Of all frames, whose times may be rounded."""
        if self.first is None or self.last is None or self.number < 2:
            return told
        return (self.last - self.first) / (self.number - 1)
