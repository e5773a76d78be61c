"""The bench: run programs, measure them, and say honestly which of them pay."""
