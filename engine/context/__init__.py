"""What a model is sent: the window of messages, the prompt made of it, the plan of a round."""
