"""Running simulations: ASE calculator, molecular dynamics and what is read off its trajectories."""
