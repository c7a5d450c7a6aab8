"""The project's work written the usual way: one clip, frame and joint at a time, one operation per formula.

`tools/benchmark.py` compares the project's speed with it. Tests compare the project's results with it.
"""
