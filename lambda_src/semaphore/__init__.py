"""The semaphore's function: hands out permits, takes them back, and makes good what was lost."""
