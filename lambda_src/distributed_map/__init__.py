"""The functions of a distributed map: which items there are, what became of them, and what operators ask for."""
