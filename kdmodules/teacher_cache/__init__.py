"""Teachers whose answers to fixed texts are computed once and kept on disk.

`docs/teacher_cache.md` says what is exact, what is shared, and where it pays.
"""

from kdmodules.teacher_cache.build import CacheJob as CacheJob
from kdmodules.teacher_cache.cached import CachedTeachers as CachedTeachers
from kdmodules.teacher_cache.settings import TeacherCache as TeacherCache
from kdmodules.teacher_cache.settings import check_cache_options as check_cache_options
