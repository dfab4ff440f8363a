"""Coursework: assignments whose checks run in the notebook, and a grader for a folder of submissions.

A notebook needs `exercise` alone, so nothing else is imported here: `assignments` reads and makes notebooks,
`checking` runs one, `grading` marks many.
"""

from geolessons.coursework.checks import Unwritten, Wrong, exercise
from geolessons.coursework.variants import right, wrong

__all__ = ["Unwritten", "Wrong", "exercise", "right", "wrong"]
