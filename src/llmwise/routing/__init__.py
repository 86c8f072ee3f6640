"""Decisions: which model answers a request, and in which order the others are tried.

Values in, values out: no I/O, no clock and no await. `features` and `classifier` say what kind of question it is,
`needs` what it takes to answer it, `auto` and `strategies` who should, `health` and `breaker` who is fit to; `planner`
makes the plan of it.
"""
