"""Chapter 4's study: four dense tasks, one backbone, and the ways to tune it, in one table."""
