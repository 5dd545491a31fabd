"""Runs cases: each holds something that imgsys promises against the real Celery.

| module | holds |
|---|---|
| `cases` | the list of cases, in the order in which they are declared |
| `children` | programs that are started, and ended whatever happens |
| `place` | what a case works with: a Redis of its own, workers, Celery apps |
| `system` | the whole of imgsys, for cases that begin or end at its client |
| `wait` | waiting for a condition, with a deadline |
"""
