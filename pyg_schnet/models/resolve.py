"""A model or committee by its path, name or address, whatever it was written by."""

from pathlib import Path

import torch

from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.committee import Committee
from pyg_schnet.models.constructors import Published
from pyg_schnet.models.loading import as_asked, load_model
from pyg_schnet.models.model_folder import FILE
from pyg_schnet.models.places import place_of
from pyg_schnet.models.published import PUBLISHED


def load(
    path: str | Path, device: str | torch.device = "cpu", *, filters: str | None = None
) -> "AtomisticModel | Committee":
    """Read a trained model, wherever it is. Nothing in it is executed.

    Args:
        path: What :func:`pyg_schnet.save`, a training run or a committee has written: a model file; the folder of a
            model or of a run, of which the best model is taken; a checkpoint of training (``best.ckpt``,
            ``last.ckpt``), of which the averaged weights are; or the folder of a committee. Or, if nothing has this
            path, the name of a model that comes with the package (``pyg-schnet models`` lists them) or that others
            have published (:func:`~pyg_schnet.convert.from_pretrained`). Or ``"hf://owner/name"``, perhaps with
            ``@revision``, for a model in the Hugging Face hub (extra ``hub``).
        device: Where to put the model.
        filters: How to evaluate the filters of a SchNet, see :class:`~pyg_schnet.SchNet`; files do not say it.
            ``"exact"`` leaves frozen tables out. ``None`` for the default.

    Returns:
        The model, of the class it was saved from, frozen if it was, in evaluation mode; call ``train()``, after
        ``unfreeze()`` if it is frozen, to train it further. A :class:`~pyg_schnet.models.Committee` for its folder.

    Raises:
        FileNotFoundError: If there is no such file or name, or no model in the folder.
        OSError: If a model that has to be downloaded cannot be.
        TypeError: If ``path`` is no path.
        ValueError: If the file is damaged, of a newer format, of an unknown architecture or written by something else,
            or there is no such device.

    Example:
        >>> from pyg_schnet import load
        >>> load("md17-ethanol").elements
        [1, 6, 8]
    """
    if isinstance(path, (str, Path)) and str(path) in PUBLISHED and not Path(path).exists():
        return as_asked(Published.from_pretrained(str(path)), path, device, filters)
    place = place_of(path)
    if place.is_dir() and not (place / FILE).is_file() and any(place.glob("member_*")):
        return Committee.load(place, device, filters=filters)
    return load_model(place, device, filters=filters)
