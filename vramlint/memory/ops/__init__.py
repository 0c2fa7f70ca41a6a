"""Operators: what each allocates, what autograd keeps of it, what its backward allocates in which order.

Backward formulas follow torch 2.13 tools/autograd/derivatives.yaml and torch/csrc/autograd/FunctionsManual.cpp; the
outputs of a generated backward are computed in alphabetical order of their names, and a C++ temporary lives
until the end of its full expression.
"""
