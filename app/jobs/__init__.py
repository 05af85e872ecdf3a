"""Jobs: a job accepted is a job done, once."""
