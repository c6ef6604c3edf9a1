"""Running a study's cells, and what it will take."""
