#!/usr/bin/env python3
"""Holds what imgsys says of images against onnxruntime: compare.py MODEL LABELS <LINES

The lines are those of imgsys' example `analyze`. Twice over: given the very pixels that imgsys
showed its model, all probabilities must agree within 1e-3 and the best label must be the same; and
from the file on, with Pillow to decode and shrink it, the best label must be the same, unless the
two best are too close to call. The samples must have the labels that are known of them."""

import base64
import json
import pathlib
import sys

import numpy
import onnxruntime
from PIL import Image, ImageOps

SIDE, SMALL = 224, 256
TOLERANCE = 1e-3
# Decoders of JPEG and WebP differ by some levels in many pixels, and labels' shares by as much.
TOO_CLOSE = 0.1
# What the samples show, as the model has it.
SAMPLES = {
    "cameraman-gray.png": "tripod",
    "cat.jpg": "tiger cat",
    "cat.webp": "Egyptian cat",
    "espresso.png": "espresso",
    "rocket.jpg": "missile",
}


def pillow_view(path):
    """What the model should be shown: the shorter side to 256, the centre of 224."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    shorter = min(image.size)
    size = [(2 * side * SMALL + shorter) // (2 * shorter) for side in image.size]
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = ((side - SIDE) // 2 for side in size)
    return numpy.asarray(image.crop((left, top, left + SIDE, top + SIDE)))


def main():
    model, labels_file = sys.argv[1:]
    with open(labels_file, encoding="utf-8") as file:
        labels = file.read().splitlines()
    session = onnxruntime.InferenceSession(model)
    [name] = (given.name for given in session.get_inputs())

    def run(view):
        scaled = (view.astype(numpy.float32) - 127) / 128
        [output] = session.run(None, {name: scaled.transpose(2, 0, 1)[None]})
        return output[0]

    failed = False
    for line in map(json.loads, sys.stdin):
        ours = numpy.array(line["probabilities"], numpy.float32)
        shown = numpy.frombuffer(base64.b64decode(line["shown"]), numpy.uint8)
        same_pixels = run(shown.reshape(SIDE, SIDE, 3))
        difference = float(numpy.abs(ours - same_pixels).max())
        best = int(ours.argmax())
        agrees = difference <= TOLERANCE and best == int(same_pixels.argmax())

        from_file = run(pillow_view(line["file"]))
        second, first = numpy.sort(from_file)[-2:]
        agrees_from_file = best == int(from_file.argmax()) or first - second < TOO_CLOSE

        expected = SAMPLES.get(pathlib.Path(line["file"]).name, labels[best])
        is_expected = labels[best] == expected == line["analysis"]["label"]
        failed |= not (agrees and agrees_from_file and is_expected)
        print(
            f"{line['file']}: {labels[best]} {ours[best]:.4f}",
            f"| same pixels: max difference {difference:.1e} {'ok' if agrees else 'WRONG'}",
            f"| from the file: {labels[int(from_file.argmax())]} {from_file.max():.4f}",
            "ok" if agrees_from_file else "WRONG",
            "" if is_expected else f"| WRONG label: not {expected}",
        )
    sys.exit(failed)


if __name__ == "__main__":
    main()
