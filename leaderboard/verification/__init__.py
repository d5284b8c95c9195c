"""What can be checked of an entry or a run: scores by the rows, rows by perturbations, attacks by harder ones."""
