"""A frozen snapshot of today's Materials Project, through its own client."""

import datetime
import json
import zipfile
from pathlib import Path
from typing import Any

from pyg_schnet.files import replacing

#: Name of the record of database version and query inside the snapshot.
ABOUT = "about.json"
#: What is fetched of each material.
FIELDS = ("material_id", "structure", "formation_energy_per_atom")


def query(path: str | Path, api_key: str | None = None, **criteria: Any) -> Path:
    """Fetch crystals and formation energies and keep them in a file, beside database version and query.

    The database changes, so results are reproducible only with the file: read it with
    ``MaterialsProject(root, "query", source=path)``. Deprecated entries and the batch of GNoME (another functional) are
    left out unless asked for. Energies carry today's corrections and differ from those of the snapshots of 2018.

    Args:
        path: The zip file to write; appears when everything is there.
        api_key: Key of the Materials Project; ``None`` for the one in the environment variable ``MP_API_KEY``.
        **criteria: Conditions as ``mp_api`` takes them, for example ``num_sites=(1, 60)`` or ``elements=["Si"]``.

    Returns:
        The file.

    Raises:
        ImportError: If ``mp-api`` is not installed.
        ValueError: If nothing fulfils the criteria or the file exists.
    """
    path = Path(path)
    if path.exists():
        raise ValueError(f"{path} exists; a snapshot is never replaced, remove it or choose another name")
    try:
        from mp_api.client import MPRester  # noqa: PLC0415
    except ImportError:
        raise ImportError('a query needs mp-api; install it with pip install "pyg_schnet[mp]"') from None
    asked = {"include_gnome": False, "deprecated": False} | criteria | {"fields": list(FIELDS)}
    with MPRester(api_key) as client:
        version = str(client.get_database_version())
        found = client.materials.summary.search(**asked)
    entries = [
        {
            "material_id": str(one.material_id),
            "structure": one.structure.as_dict(),
            "formation_energy_per_atom": one.formation_energy_per_atom,
        }
        for one in found
    ]
    if not entries:
        raise ValueError(f"no material fulfils {criteria}")
    entries.sort(key=lambda entry: entry["material_id"])
    about = {
        "database_version": version,
        "query": asked,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "entries": len(entries),
    }
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("query.json", json.dumps(entries, default=float))
        archive.writestr(ABOUT, json.dumps(about, indent=1, default=str))
    return path
