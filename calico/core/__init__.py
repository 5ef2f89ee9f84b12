"""Nouns and primitives that every stage depends on; imports nothing of calico but errors."""
