"""Plumbing for the course on finding cancer in tissue images (PatchCamelyon). Not for diagnosis."""

__version__ = "0.1.0"
