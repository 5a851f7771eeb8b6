"""Predicted and true values of one target, and what their differences say."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyg_schnet.units import STRESS, conversion


@dataclass(frozen=True, eq=False)
class TargetErrors:
    r"""Predicted beside true values of one target, float64.

    Where the truth is not known (NaN), both are left out: a whole row of forces or a whole stress if one of its
    components is NaN.

    Attributes:
        name: Name of the target, for example ``"energy"``, ``"forces"`` or ``"U0"``.
        unit: Unit of both; empty if there is none or it is not known.
        predicted: Predictions [M], or [N, 3] for forces.
        true: True values of the same shape.
        atoms: Number of atoms of each structure [M], if they are of structures and this is known.
        references: What the references of the model alone would predict [M]: single-atom values and means, without its
            network; ``None`` if there are none.
        groups: What the structure of each row is called [M] or [N], for errors of each kind of them.
        left_out: Number of rows that were left out, as the truth is not known.

    Raises:
        ValueError: If the shapes differ, nothing is known, or a prediction is not finite where the truth is known.

    Example:
        >>> errors = TargetErrors("energy", "eV", [1.0, 2.0, 7.0], [1.5, 2.0, float("nan")])
        >>> errors.metrics()["mae"], errors.converted("meV").metrics()["max"], errors.true.shape
        (0.25, 500.0, (2,))
    """

    name: str
    unit: str
    predicted: NDArray[np.float64]
    true: NDArray[np.float64]
    atoms: NDArray[np.int64] | None = None
    references: NDArray[np.float64] | None = None
    groups: NDArray[np.str_] | None = None
    left_out: int = 0

    def __post_init__(self) -> None:
        predicted, true = _float64(self.predicted), _float64(self.true)
        if predicted.shape != true.shape or predicted.ndim == 0:
            raise ValueError(
                f"predicted and true values of {self.name!r} must have the same shape [M] or [N, 3], "
                f"got {list(predicted.shape)} and {list(true.shape)}"
            )
        known = np.asarray(~np.isnan(true).any(axis=tuple(range(1, true.ndim))))
        predicted, true = predicted[known], true[known]
        if true.size == 0:
            raise ValueError(f"no true value of {self.name!r} is known; expected at least one that is not NaN")
        for what, values in (("true", true), ("predicted", predicted)):
            if wrong := int((~np.isfinite(values)).sum()):
                raise ValueError(
                    f"{wrong} of {values.size} {what} values of {self.name!r} are not finite; errors would have no "
                    "meaning: look at the model and its data"
                )
        object.__setattr__(self, "predicted", predicted)
        object.__setattr__(self, "true", true)
        object.__setattr__(self, "left_out", self.left_out + int((~known).sum()))
        for name in ("atoms", "references", "groups"):
            if (values := getattr(self, name)) is not None:
                if len(values) != len(known):
                    raise ValueError(f"`{name}` of {self.name!r} must have {len(known)} rows, got {len(values)}")
                object.__setattr__(self, name, np.asarray(values)[known])

    @property
    def errors(self) -> NDArray[np.float64]:
        """Predicted less true values, all components in a row [M]."""
        return (self.predicted - self.true).ravel()

    def metrics(self) -> dict[str, float]:
        r"""Statistics of the errors :math:`e = \hat y - y` over all values, components counted one by one.

        Returns:
            In the unit of the target ``mae`` :math:`\langle |e| \rangle`, ``rmse`` :math:`\langle e^2 \rangle^{1/2}`,
            ``median`` and ``max`` of :math:`|e|`, ``bias`` :math:`\langle e \rangle`, ``std``, the standard deviation
            of e, and ``mae_of_mean`` :math:`\langle |y - \langle y \rangle| \rangle`, the mean absolute error of always
            predicting the mean of the true values; ``mae_of_references``, that of the references alone, if there are
            any; and ``count``, the number of values.
        """
        errors, true = self.errors, self.true.ravel()
        absolute = np.abs(errors)
        alone = {}
        if self.references is not None:
            alone["mae_of_references"] = float(np.abs(self.references - true).mean())
        return (
            mae_and_rmse(errors)
            | {
                "max": float(absolute.max()),
                "median": float(np.median(absolute)),
                "bias": float(errors.mean()),
                "std": float(errors.std()),
                "mae_of_mean": float(np.abs(true - true.mean()).mean()),
                "count": errors.size,
            }
            | alone
        )

    def converted(self, unit: str) -> "TargetErrors":
        """The same in another unit.

        Args:
            unit: The unit wanted, for example ``"kcal/mol"``, ``"meV"`` or ``"kcal/mol/Ang"``.

        Returns:
            Values in that unit.

        Raises:
            ValueError: If a unit is not known or the two measure different things.
        """
        factor = unit_factor(self.unit, unit)
        alone = None if self.references is None else self.references * factor
        return replace(self, unit=unit, predicted=self.predicted * factor, true=self.true * factor, references=alone)

    def per_atom(self) -> "TargetErrors":
        """Energies divided by the number of atoms, to compare structures of different sizes.

        Returns:
            Values per atom, called ``<name>_per_atom``.

        Raises:
            ValueError: If numbers of atoms are not known.

        Example:
            >>> TargetErrors("energy", "eV", [2.0], [4.0], atoms=np.array([4])).per_atom().metrics()["mae"]
            0.5
        """
        if self.atoms is None:
            raise ValueError(f"the numbers of atoms of {self.name!r} are not known; pass `atoms`")
        alone = None if self.references is None else self.references / self.atoms
        values: dict[str, Any] = {
            "predicted": self.predicted / self.atoms,
            "true": self.true / self.atoms,
            "references": alone,
        }
        return replace(self, name=f"{self.name}_per_atom", unit=f"{self.unit}/atom", **values)

    def by_group(self) -> dict[str, "TargetErrors"]:
        """Errors of each kind of structures by its name, in alphabetical order; empty without names."""
        if self.groups is None:
            return {}
        return {str(name): self._of(self.groups == name) for name in np.unique(self.groups)}

    def _of(self, chosen: NDArray[np.bool_]) -> "TargetErrors":
        """Some of the rows."""
        fields = ("predicted", "true", "atoms", "references", "groups")
        rows: dict[str, Any] = {name: getattr(self, name)[chosen] for name in fields if getattr(self, name) is not None}
        return replace(self, left_out=0, **rows)


def mae_and_rmse(errors: NDArray[np.float64]) -> dict[str, float]:
    r"""Mean absolute error and root mean squared error, components counted one by one.

    .. math:: \mathrm{MAE} = \langle |e| \rangle, \quad \mathrm{RMSE} = \langle e^2 \rangle^{1/2}

    Args:
        errors: Predicted less true values, of any shape.

    Returns:
        ``mae`` and ``rmse``.

    Example:
        >>> mae_and_rmse(np.array([3.0, -4.0]))
        {'mae': 3.5, 'rmse': 3.5355339059327378}
    """
    return {"mae": float(np.abs(errors).mean()), "rmse": float(np.sqrt(np.square(errors).mean()))}


def unit_factor(source: str, target: str) -> float:
    """Factor between two units; every unit, also one that is not known, converts to itself.

    Args:
        source: The unit numbers are in.
        target: The unit wanted.

    Returns:
        The factor to multiply with.

    Raises:
        ValueError: If the units differ and one is not known, or they measure different things.

    Example:
        >>> unit_factor("D", "D"), unit_factor("eV", "meV"), round(unit_factor("eV/Ang^3", "GPa"), 1)
        (1.0, 1000.0, 160.2)
    """
    if source == target:
        return 1.0
    if source.endswith("/atom") and target.endswith("/atom"):
        source, target = source.removesuffix("/atom"), target.removesuffix("/atom")
    if source in STRESS and target in STRESS:
        return STRESS[source] / STRESS[target]
    return conversion(source, target)


def _float64(values: ArrayLike | Any) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
