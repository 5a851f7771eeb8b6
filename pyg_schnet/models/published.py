"""Names of the trained models that others have published."""

#: Folder of each network of the C20 study in the authors' repository.
C20 = {"c20-energy": "energy_model", "c20-force": "force_model"}
#: Folder of each QM9 model in the archive.
QM9 = {
    "qm9-mu": "qm9_dipole_moment",
    "qm9-alpha": "qm9_isotropic_polarizability",
    "qm9-homo": "qm9_homo",
    "qm9-lumo": "qm9_lumo",
    "qm9-gap": "qm9_gap",
    "qm9-r2": "qm9_electronic_spatial_extent",
    "qm9-zpve": "qm9_zpve",
    "qm9-U0": "qm9_energy_U0",
    "qm9-U": "qm9_energy_U",
    "qm9-H": "qm9_enthalpy_H",
    "qm9-G": "qm9_free_energy",
    "qm9-Cv": "qm9_heat_capacity",
}
#: All of them.
PUBLISHED = (*C20, *QM9)
