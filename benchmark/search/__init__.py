"""What an attack sees: recovery problems, and the constraints that a perturbation has to obey."""
