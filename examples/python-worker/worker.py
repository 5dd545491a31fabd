"""An imgsys worker in Python: takes `imgsys.analyze` and says which colour an image has most of.

Put your own model into `look`. What a worker owes the queue is in `contract.py`; see README.md.
"""

import io
import os
import time
from pathlib import Path

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from contract import Contract, Failed
from PIL import Image, UnidentifiedImageError

URL = os.environ.get("IMGSYS_REDIS_URL", "redis://127.0.0.1:6379/0")
LEASE = float(os.environ.get("IMGSYS_LEASE", "15"))  # worker.lease of the other workers
SOURCES = os.environ.get("IMGSYS_IMAGE_SOURCES", "file:///var/lib/imgsys/images/").split(",")
DELAY = float(os.environ.get("IMGSYS_DELAY", "0"))  # seconds, as if the model were a large one
TOKEN_FILE = os.environ.get("IMGSYS_IMAGES_TOKEN_FILE")  # if servers want a token for their images
PREFIX = os.environ.get("IMGSYS_KEY_PREFIX", "")  # the servers' key_prefix, if they have one

app = Celery("imgsys", broker=URL, backend=URL)
TOKEN = Path(TOKEN_FILE).read_text().strip() if TOKEN_FILE else None
contract = Contract(app, lease=LEASE, sources=SOURCES, prefix=PREFIX, token=TOKEN)
contract.configure(task_soft_time_limit=30)

COLOURS = {
    "black": (0, 0, 0), "white": (255, 255, 255), "grey": (128, 128, 128), "red": (200, 30, 30),
    "orange": (240, 140, 30), "yellow": (240, 220, 60), "green": (50, 150, 60),
    "blue": (50, 90, 190), "purple": (130, 60, 150), "pink": (240, 170, 190), "brown": (110, 70, 40),
}
PALETTE = Image.new("P", (1, 1))
PALETTE.putpalette([value for colour in COLOURS.values() for value in colour])
Image.MAX_IMAGE_PIXELS = 25_000_000  # twice as many are refused


def look(data: bytes) -> dict:
    """What is in an image. Whatever it can't make sense of, it says with `Failed`."""
    time.sleep(DELAY)
    try:
        image = Image.open(io.BytesIO(data))
        small = image.convert("RGB").resize((64, 64))
    except UnidentifiedImageError as error:
        raise Failed("unsupported_format", "Pillow does not know the format") from error
    except Image.DecompressionBombError as error:
        raise Failed("too_large", str(error)) from error
    except OSError as error:
        raise Failed("corrupt", str(error)) from error
    counts = small.quantize(palette=PALETTE, dither=Image.Dither.NONE).histogram()
    shares = sorted(zip((100 * count / 4096 for count in counts), COLOURS), reverse=True)
    scores = [{"label": name, "confidence": share} for share, name in shares if share > 0]
    return {
        "analyzer": {"name": "colour", "version": "1", "model": None},
        "label": scores[0]["label"],
        "confidence": scores[0]["confidence"],
        "scores": scores,
        "properties": {
            "format": image.format.lower(), "width": image.width, "height": image.height,
        },
    }


@app.task(name="imgsys.analyze", bind=True)
def analyze(self, *args, **kwargs):
    """The task: what it returns or raises is also Celery's result."""
    with contract.job(self, args, kwargs) as job:
        try:
            return job.done(look(job.image()))
        except SoftTimeLimitExceeded as error:
            raise Failed("timeout", "not analysed within 30 s") from error
