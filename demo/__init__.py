"""The demo: data, models trained on it, and the questions that show what Headwater answers."""
