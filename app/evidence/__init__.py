"""How good a method was found to be on a model: measured by retraining, outside the service."""
