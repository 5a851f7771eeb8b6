"""Many strings as two arrays of numbers, which may be files that are mapped into memory."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Strings(Sequence[str | None]):
    """Strings, some of which may be lacking, that are decoded when they are asked for.

    Args:
        text: All of them, one after another, in UTF-8 [L] uint8.
        ends: Where each ends [M] int64, bits inverted of those that are lacking.

    Example:
        >>> strings = Strings.of(["one", None, "zwölf"])
        >>> list(strings), strings[2], strings[:1], len(strings)
        (['one', None, 'zwölf'], 'zwölf', ['one'], 3)
    """

    def __init__(self, text: Tensor, ends: Tensor) -> None:
        self.text, self.ends = text, ends

    @classmethod
    def of(cls, strings: Sequence[str | None]) -> "Strings":
        """Strings of a list.

        Args:
            strings: The list.

        Returns:
            The same strings.
        """
        return cls(*map(torch.from_numpy, packed(strings)))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[str | None]: ...
    def __getitem__(self, index: int | slice) -> str | list[str | None] | None:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        end = int(self.ends[index])
        if end < 0:
            return None
        begin = int(self.ends[index - 1]) if index else 0
        return self.text[max(begin, ~begin) : end].numpy().tobytes().decode()

    def __iter__(self) -> Iterator[str | None]:
        return iter_unpacked(self.text.numpy(), self.ends.numpy())


def packed(strings: Sequence[str | None], begin: int = 0) -> tuple[NDArray, NDArray]:
    """Strings as arrays.

    Args:
        strings: The strings.
        begin: Where the first one begins, if there are others before it.

    Returns:
        ``text`` and ``ends`` as :class:`Strings` takes them.
    """
    encoded = [b"" if one is None else one.encode(errors="surrogatepass") for one in strings]
    ends = begin + np.cumsum([0, *map(len, encoded)], dtype=np.int64)[1:]
    lacking = np.array([one is None for one in strings], dtype=bool)
    return np.frombuffer(b"".join(encoded), dtype=np.uint8).copy(), np.where(lacking, ~ends, ends)


def iter_unpacked(text: NDArray, ends: NDArray) -> Iterator[str | None]:
    """The strings of arrays.

    Args:
        text: As :class:`Strings` takes it.
        ends: Likewise.

    Yields:
        Each string.
    """
    begin = 0
    for at in range(0, len(ends), 4096):
        for end in ends[at : at + 4096].tolist():
            yield None if end < 0 else text[begin:end].tobytes().decode(errors="surrogatepass")
            begin = max(end, ~end)
