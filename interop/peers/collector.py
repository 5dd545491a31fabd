"""A Python worker for callbacks: keeps what it is given, or makes something of it."""

import json
import os

from celery import Celery

BROKER = os.environ["BROKER"]
app = Celery("collector", broker=BROKER, backend=BROKER)
app.conf.update(json.loads(os.environ["SETTINGS"]))


@app.task(name="collector.keep")
def keep(given, what):
    """Keeps it in a list."""
    app.backend.client.rpush(f"collected:{what}", json.dumps(given))


@app.task(name="collector.label")
def label(result):
    """The label of an analysis."""
    return result["outcome"]["done"]["label"]


@app.task(name="collector.loud")
def loud(text):
    """The same, louder."""
    return text.upper() + "!"
