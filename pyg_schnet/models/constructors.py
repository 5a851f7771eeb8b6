"""Ways to models that somebody has trained and published."""

from pathlib import Path
from typing import Any, NoReturn

from pyg_schnet.models.spellings import pretrained_name


class Published:
    """Constructors of :class:`~pyg_schnet.SchNet` with published weights."""

    @staticmethod
    def from_tensorflow(path: str | Path, **arguments: Any) -> Any:
        """A network of the authors' TensorFlow code, see :func:`~pyg_schnet.convert.from_tensorflow`.

        Args:
            path: Its folder, the prefix of a checkpoint, or an ``npz`` file with its variables.
            **arguments: As in :func:`~pyg_schnet.convert.from_tensorflow`, for example ``energy_unit="eV"``.

        Returns:
            The model in float64 and evaluation mode, energies in the network's own unit: kcal/mol for C20.
        """
        from pyg_schnet.convert import from_tensorflow  # noqa: PLC0415, it imports models

        return from_tensorflow(path, **arguments)

    @staticmethod
    def from_qm9_pretrained(root: str | Path, dataset: Any, target: int) -> NoReturn:
        """PyG's way to a published model, which here is :meth:`from_pretrained`.

        Args:
            root: Where PyG would keep the archive.
            dataset: QM9.
            target: Number of the property.

        Raises:
            NotImplementedError: Always, with what to write instead.
        """
        name = pretrained_name(target)
        raise NotImplementedError(
            f"write SchNet.from_pretrained({name!r}, root={str(root)!r}) for the model; it comes without PyG's splits "
            "of the dataset, take those of pyg_schnet.datasets"
        )

    @staticmethod
    def from_pretrained(name: str, **arguments: Any) -> Any:
        """A trained model by its name, see :func:`~pyg_schnet.convert.from_pretrained`.

        Args:
            name: Of a model that comes with the package, for example ``"md17-ethanol"``; ``"c20-energy"``,
                ``"c20-force"``, or a property of QM9 such as ``"qm9-U0"`` for a published one; ``"hf://owner/name"``
                for one in the Hugging Face hub.
            **arguments: As in :func:`~pyg_schnet.convert.from_pretrained`, for example ``source="models"``.

        Returns:
            The model in evaluation mode.
        """
        from pyg_schnet.convert import from_pretrained  # noqa: PLC0415, it imports models

        return from_pretrained(name, **arguments)
