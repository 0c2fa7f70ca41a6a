"""Training steps on a real GPU: what torch allocates and reserves, phase by phase, beside the prediction."""
