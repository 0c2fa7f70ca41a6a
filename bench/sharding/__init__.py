"""Steps of real data-parallel engines over tensors without memory: the truth that bench/sharded.py compares with."""
