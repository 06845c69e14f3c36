"""Weir: a streaming-aware gateway for LLM traffic that relays every stream untouched and keeps one true account of it."""

__version__ = "0.1.0"
