"""Readers: one per written form, each from a `Document` to a tree of located values."""
