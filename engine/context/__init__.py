"""Context: the window of messages that a model is sent, the prompt made of it, the plan of a round."""
