"""What all tests share: property tests draw the same examples every time, and are not timed one by one."""

from hypothesis import settings

# A deadline per example measures the machine's other load, not the code.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")
