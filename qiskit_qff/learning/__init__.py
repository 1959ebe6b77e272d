"""Active learning: molecular dynamics with the model at hand finds what the model has not seen, and that is labelled.

    start frames ─> labels ─> training ─> dynamics ─> choice by extrapolation grade ─> labels ─> training ─> ...

Each step writes what it found before it is entered into a journal, so that a run that is killed anywhere goes on where
it was: labels stay, dynamics go on from their checkpoint, and what is done again gives the same numbers.
"""
