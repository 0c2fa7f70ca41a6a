"""Steps of real models over fake tensors, counted by torch's FlopCounterMode."""
