"""Trained models by name: those that come with the package, and those that others have published."""

import io
import zipfile
from pathlib import Path
from typing import Any

from pyg_schnet.convert.safe_pickle import Record, part_of, read_torch, state_of
from pyg_schnet.convert.schnetpack import build, normal
from pyg_schnet.convert.schnetpack_module import facts_of
from pyg_schnet.convert.tensorflow import from_tensorflow
from pyg_schnet.convert.weights import rescale, to_unit
from pyg_schnet.files.download import NotDownloadedError, OtherFileError, RemoteFile, digest, download
from pyg_schnet.files.source import MIRROR_VARIABLE, cache_folder, first_with, mirror_of
from pyg_schnet.models import load
from pyg_schnet.models.hub import SCHEME
from pyg_schnet.models.loading import load_model
from pyg_schnet.models.published import C20, QM9
from pyg_schnet.models.registry import bundled_names, nearest
from pyg_schnet.models.schnet import SchNet
from pyg_schnet.units import BOHR, DEBYE, ENERGY, conversion, target_unit

C20_URL = (
    "https://raw.githubusercontent.com/atomistic-machine-learning/SchNet/2ee27fa858cbf690d6d653096426d062095d84e5/"
    "models/c20"
)
#: sha256 of the files of each C20 network.
C20_FILES = {
    "energy_model": {
        "args.npy": "0dda36bb89ee093091bdca2377809f4b2494b5dceb74a500d06c081fa2f1114d",
        "validation/best_model.index": "1bdaab783c22378e429d6128a9296b9a43fa6c7568eaacf307af2d99cc8aaecf",
        "validation/best_model.data-00000-of-00001": "4857e9111cf6ed6798f39ab36f0f2dd56b55597b14e81ffb0627087467cfe10d",
    },
    "force_model": {
        "args.npy": "e6c8e6e5db4047773ed3d61fefa9332e0c40fe577fe6660d91ae10568f8b1e92",
        "validation/best_model.index": "c8895afe220533b3b3845e91fd93c72185e7460a4e0a06a298f82182084266cc",
        "validation/best_model.data-00000-of-00001": "4e5894af4c920430cfebbc50516281f045a288bdb56207b9dde22bdda0ee56ba",
    },
}

QM9_URL = "http://www.quantum-machine.org/datasets/trained_schnet_models.zip"
_QM9_FOLDER = "trained_schnet_models"
#: From the units of the archive to those of QM9, for the properties that are no energies.
_QM9_UNITS = {"qm9-mu": 1 / DEBYE, "qm9-alpha": BOHR**-3, "qm9-r2": BOHR**-2, "qm9-Cv": 1.0}


def from_pretrained(
    name: str, *, root: str | Path | None = None, source: str | Path | None = None, energy_unit: str | None = None
) -> Any:
    """A trained model by its name.

    Models that come with the package, for example ``"md17-ethanol"``, need no network; ``pyg-schnet models`` lists them
    with their cards. ``"hf://owner/name"`` is a model in the Hugging Face hub, see :func:`pyg_schnet.load`. All others
    are published ones, SchNets, which are downloaded:

    ``"c20-energy"`` and ``"c20-force"`` are the networks of the C20 study of J. Chem. Phys. 148, 241722 (2018), section
    III.D, one for energies and one for forces, from the authors' repository; energies in kcal/mol, float64. Every file
    must have its sha256.

    ``"qm9-U0"`` and the other eleven, ``qm9-`` followed by ``mu``, ``alpha``, ``homo``, ``lumo``, ``gap``, ``r2``,
    ``zpve``, ``U0``, ``U``, ``H``, ``G`` or ``Cv``, are the QM9 models of SchNetPack 0.x that PyG's
    ``SchNet.from_qm9_pretrained`` loads, float32, in its units: eV, Debye (mu), Bohr^3 (alpha), Bohr^2 (r2), cal/mol/K
    (Cv). Pickled classes are not imported; ``"qm9-mu"`` needs ASE (extra ``md``) for the masses. The archive could not
    be fetched while this was written: the reading follows PyG's and was tested with files of the same structure, the
    archive's sha256 is not known and not checked.

    Args:
        name: Name of the model, or its address in the hub.
        root: Folder to keep downloads in, ``None`` for the cache of the system.
        source: Local copy: for C20 the folder of the network or one that holds it, for QM9 the archive, its unpacked
            folder or the file ``best_model``. ``None`` for the folder in the environment variable ``PYG_SCHNET_DATA``,
            if set, then the internet.
        energy_unit: Unit to convert energies to, ``None`` for those above, or for the model's own.

    Returns:
        The model in evaluation mode.

    Raises:
        ValueError: If there is none of this name, a file is not the published one, or ``root`` or ``source`` are given
            for a model that is not downloaded by them.
        FileNotFoundError: If ``source`` does not have it.
        OSError: If it cannot be downloaded.
    """
    if name in C20:
        return from_tensorflow(_c20_folder(name, root, source), energy_unit=energy_unit)
    if name in bundled_names() or name.startswith(SCHEME):
        return _not_published(name, root, source, energy_unit)
    if name not in QM9:
        raise ValueError(f"unknown pretrained model {name!r}; {nearest(name)}")
    if energy_unit is not None and name in _QM9_UNITS:
        raise ValueError(f"{name!r} is no energy; leave `energy_unit` out, got {energy_unit!r}")
    model = _from_qm9(_qm9_record(name, root, source), name)
    rescale(model, _QM9_UNITS.get(name, 1.0))
    return to_unit(model, None if name in _QM9_UNITS else "eV", energy_unit)


def _not_published(name: str, root: str | Path | None, source: str | Path | None, energy_unit: str | None) -> Any:
    """A model of the package or of the hub."""
    for given, value in (("root", root), ("source", source)):
        if value is not None:
            raise ValueError(f"`{given}` is of published models that are downloaded; leave it out for {name!r}")
    if energy_unit is None:
        return load(name)
    model: Any = load_model(name)
    unit = target_unit(model.units, count=model.out_channels)
    if unit.removesuffix("/atom") not in ENERGY:
        raise ValueError(f"{name!r} does not say that it predicts an energy; leave `energy_unit` out")
    rescale(model, conversion(unit.removesuffix("/atom"), energy_unit))
    per = "/atom" if unit.endswith("/atom") else ""
    model.units = {one: energy_unit + per if of == unit else of for one, of in model.units.items()}
    return model


def _c20_folder(name: str, root: str | Path | None, source: str | Path | None) -> Path:
    """The folder with the verified files of a network, downloaded if there is no mirror."""
    kind, mirror = C20[name], mirror_of(source)
    files, first = C20_FILES[kind], next(iter(C20_FILES[kind]))
    if mirror is not None:
        inside = ("", "tensorflow", "models/c20", "c20/tensorflow", "c20")
        named = [mirror] if source is not None else []  # a mirror of many files cannot be the network itself
        folder = first_with([*(mirror / each / kind for each in inside), *named], first)
        if folder is not None:
            for file, sha256 in files.items():
                if not (folder / file).is_file():
                    raise FileNotFoundError(f"{folder} lacks {file}; expected {', '.join(files)}")
                _check_sha256(folder / file, sha256)
            return folder
        if source is not None:
            raise FileNotFoundError(f"`source` {mirror} has no {kind}/{first}; expected the authors' folder models/c20")
    folder = cache_folder(root) / "c20" / kind
    for file, sha256 in files.items():
        _download(f"{C20_URL}/{kind}/{file}", folder / file, sha256)
    return folder


def _check_sha256(path: Path, sha256: str) -> None:
    """Check that a file is the published one."""
    found = digest(path, "sha256")
    if found != sha256:
        raise ValueError(f"{path} is not the published file: expected sha256 {sha256}, got {found}; fetch it again")


def _download(url: str, path: Path, sha256: str | None) -> None:
    """Put a published file in place, unless it is already there."""
    if sha256 is not None and path.is_file() and digest(path, "sha256") != sha256:
        path.unlink()
    try:
        download(RemoteFile(path.name, (url,), sha256), path.parent)
    except NotDownloadedError as error:
        reason = error.reasons[url]
        if sha256 is not None and isinstance(reason, OtherFileError):
            raise ValueError(f"{url} did not give the published file with sha256 {sha256}; try again later") from None
        raise OSError(
            f"could not download {path.name} ({reason}); fetch {url} by hand and pass its folder as `source`, or name "
            f"a folder that holds it in the environment variable {MIRROR_VARIABLE}"
        ) from None


def _qm9_record(name: str, root: str | Path | None, source: str | Path | None) -> Any:
    """The inert content of a model of the archive."""
    member, mirror = f"{QM9[name]}/best_model", mirror_of(source)
    if mirror is not None:
        if mirror.is_file() and not (mirror.suffix == ".zip" or _is_archive(mirror)):
            return read_torch(mirror)
        places = [mirror, mirror / _QM9_FOLDER, mirror / "qm9" / _QM9_FOLDER]
        folder = first_with(places, member)
        if folder is not None:
            return read_torch(folder / member)
        archives = [mirror, mirror / f"{_QM9_FOLDER}.zip", mirror / "qm9" / f"{_QM9_FOLDER}.zip"]
        for archive in archives:
            if archive.is_file():
                return _from_archive(archive, member)
        if source is not None:
            raise FileNotFoundError(f"`source` {mirror} has neither {_QM9_FOLDER}.zip nor {_QM9_FOLDER}/{member}")
    archive = cache_folder(root) / f"{_QM9_FOLDER}.zip"
    _download(QM9_URL, archive, None)
    return _from_archive(archive, member)


def _is_archive(path: Path) -> bool:
    """True if a file is a zip archive with models in it; files of torch.save are zip archives too."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(member.endswith("/best_model") for member in archive.namelist())


def _from_archive(archive: Path, member: str) -> Any:
    try:
        with zipfile.ZipFile(archive) as file:
            found = next((each for each in file.namelist() if each.endswith(member)), None)
            if found is None:
                raise ValueError(f"{archive} has no {member}; expected the archive {QM9_URL}")
            return read_torch(io.BytesIO(file.read(found)), f"{archive}/{found}")
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is not a readable zip archive ({error}); delete it and fetch it again") from None


def _from_qm9(record: Any, name: str) -> SchNet:
    """A model of the archive, in the archive's units."""
    if not isinstance(record, Record) or part_of(record, "representation") is None:
        kind = type(record).path if isinstance(record, Record) else type(record).__name__
        raise ValueError(f"expected a pickled model of SchNetPack for {name!r}, got {kind}")
    state, facts = facts_of(record, normal(state_of(record)))
    return build(state, {"cutoff": 10.0} | facts if _tells_no_cutoff(state) else facts)


def _tells_no_cutoff(state: dict[str, Any]) -> bool:
    return not any(name.endswith("cutoff_network.cutoff") for name in state)
