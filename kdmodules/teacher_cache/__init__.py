"""Teachers whose answers to fixed texts are computed once and kept on disk.

`docs/teacher_cache.md` says what is exact, what is shared, and where it pays.
"""

from kdmodules.teacher_cache.build import CacheJob
from kdmodules.teacher_cache.cached import CachedTeachers
from kdmodules.teacher_cache.settings import TeacherCache, check_cache_options

__all__ = ["CacheJob", "CachedTeachers", "TeacherCache", "check_cache_options"]
