"""How good is an attribution?  Retrain without some images, and see whether it was foretold."""
