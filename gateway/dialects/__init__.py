"""Dialects: frames to events, one file per wire format, this table their only registry. No dialect knows another."""

from gateway.dialects.base import Registry
from gateway.dialects.openai_chat import OPENAI

DIALECTS: Registry = {"openai": OPENAI}
