"""Dialects: frames to events and back, one package per wire format, this table their only registry. No dialect knows another."""

from gateway.dialects.anthropic import ANTHROPIC
from gateway.dialects.base import Registry
from gateway.dialects.bedrock import BEDROCK
from gateway.dialects.gemini import GEMINI
from gateway.dialects.ollama import OLLAMA
from gateway.dialects.openai import AZURE, OPENAI
from gateway.dialects.responses import RESPONSES

DIALECTS: Registry = {dialect.name: dialect for dialect in (OPENAI, RESPONSES, ANTHROPIC, GEMINI, BEDROCK, OLLAMA, AZURE)}
