"""One module per template: it plays the whole game for one question and returns a result."""
