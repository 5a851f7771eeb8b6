"""A model or committee by its path, whatever it was written by."""

from pathlib import Path

import torch

from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.checkpoint import FILE
from pyg_schnet.models.committee import Committee
from pyg_schnet.models.loading import checked_path, load_model


def load(
    path: str | Path, device: str | torch.device = "cpu", *, filters: str | None = None
) -> "AtomisticModel | Committee":
    """Read what :func:`pyg_schnet.save`, a training run or a committee has written. Nothing in it is executed.

    Args:
        path: A model file; the folder of a run, of which the best model is taken; a checkpoint of training
            (``best.ckpt``, ``last.ckpt``), of which the averaged weights are; or the folder of a committee.
        device: Where to put the model.
        filters: How to evaluate the filters of a SchNet, see :class:`~pyg_schnet.SchNet`; files do not say it.
            ``"exact"`` leaves frozen tables out. ``None`` for the default.

    Returns:
        The model, of the class it was saved from, frozen if it was, in evaluation mode; call ``train()``, after
        ``unfreeze()`` if it is frozen, to train it further. A :class:`~pyg_schnet.models.Committee` for its folder.

    Raises:
        FileNotFoundError: If there is no such file, or no model in the folder.
        TypeError: If ``path`` is no path.
        ValueError: If the file is damaged, of a newer format, of an unknown architecture or written by something else,
            or there is no such device.
    """
    place = checked_path(path)
    if place.is_dir() and not (place / FILE).is_file() and any(place.glob("member_*")):
        return Committee.load(place, device, filters=filters)
    return load_model(place, device, filters=filters)
