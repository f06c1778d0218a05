"""OpenAI's Chat Completions and Responses: rendering a request, reading its stream."""
