"""Training whose losses and gradients are measured by Estimator primitives instead of computed."""
