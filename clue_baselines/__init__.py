"""CLUE, the Chinese language understanding benchmark: one readable script per task."""
