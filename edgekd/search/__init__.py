"""Search: the best student within a budget, or the proof that there is none.

Start with `candidate` (one network that could be built), `limits` (what the user asks for) and
`forecast` (what is known of a candidate before training). `record` is
what search.json holds. May import every room but app.
"""
