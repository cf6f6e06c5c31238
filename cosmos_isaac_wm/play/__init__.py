"""The dream as a page in the browser: a person or a policy acts, live, and what was played becomes a dataset.

`cosmos-wm play` starts it. Needs the extra `play`; `session` alone needs nothing.
"""
