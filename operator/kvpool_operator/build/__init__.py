"""Manifests of what a pool owns; pure, one concern a file."""
