"""Anthropic's Messages: rendering a request, reading its stream."""
