"""A Python worker that stands in for ours: what it sends on is what ours has to send on.

It gives the answer that it is told, so that both have the same to send on.
"""

import json
import os

from celery import Celery

BROKER = os.environ["BROKER"]
app = Celery("stand-in", broker=BROKER, backend=BROKER)
app.conf.update(json.loads(os.environ["SETTINGS"]))


class AnalysisFailed(Exception):
    """As ours fails."""


@app.task(name="imgsys.analyze")
def analyze(**kwargs):
    """Gives the answer, or fails."""
    if "fails" in kwargs:
        raise AnalysisFailed(kwargs["fails"])
    return kwargs["answer"]
