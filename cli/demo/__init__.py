"""The demo: every part of attar once, on documentation that is on this machine."""

from .teacher import teacher_folder

__all__ = ["teacher_folder"]
