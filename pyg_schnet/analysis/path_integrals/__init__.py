"""Path integrals: energies and distances of quantum nuclei from the beads of a ring polymer."""
