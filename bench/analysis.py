#!/usr/bin/env python3
"""Images a second on one core: imgsys, and Pillow, numpy and onnxruntime doing the same.

analysis.py PACE MODEL_FOLDER SAMPLE SECONDS

PACE is imgsys' example of that name: of each line on its standard input, a file and seconds, it says
how many images a second it analyses, without and with the model. The sample, enlarged to each size and
saved as JPEG, is analysed by both in turn, three times; the medians are compared."""

import io
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import onnxruntime
from PIL import Image, ImageOps

SIZES = [(640, 427), (2560, 1600), (5640, 3172)]
ROUNDS = 3
SMALL, SIDE = 256, 224
LUMA = numpy.array([0.299, 0.587, 0.114], numpy.float32)


def dct_matrix(size):
    k, n = numpy.mgrid[:size, :size]
    return numpy.cos(numpy.pi / size * (n + 0.5) * k).astype(numpy.float32)


DCT = dct_matrix(32)


def look(data):
    """What imgsys' inspect finds, by the same formulas or their nearest in Pillow and numpy."""
    image = Image.open(io.BytesIO(data))
    exif = dict(image.getexif())
    image = ImageOps.exif_transpose(image).convert("RGB")
    shorter = min(image.size)
    size = [max(1, round(side * SMALL / shorter)) for side in image.size]
    small = image.resize(size, Image.Resampling.BICUBIC)
    pixels = numpy.asarray(small)
    luma = pixels.astype(numpy.float32) @ LUMA
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    shadows, highlights = (luma <= 3).mean(), (luma >= 252).mean()
    colors = small.quantize(5, Image.Quantize.MEDIANCUT, kmeans=4).getcolors()
    tile = small.convert("L").resize((32, 32), Image.Resampling.BICUBIC)
    low = (DCT @ numpy.asarray(tile, numpy.float32) @ DCT.T)[1:9, 1:9]
    bits = low > numpy.median(low)
    thumb = numpy.asarray(small.resize((32, 32))).astype(numpy.float32)
    waves = DCT[:7] @ thumb.transpose(2, 0, 1) @ DCT[:7].T
    found = (exif, laplacian.var(), luma.mean(), shadows, highlights, colors, bits, waves)
    return found, small


def view(small):
    left, top = ((side - SIDE) // 2 for side in small.size)
    square = numpy.asarray(small.crop((left, top, left + SIDE, top + SIDE)), numpy.float32)
    return ((square - 127) / 128).transpose(2, 0, 1)[None]


def pace(work, seconds):
    """How often a second `work` is done."""
    work()
    done, begin = 0, time.perf_counter()
    while (taken := time.perf_counter() - begin) < seconds:
        work()
        done += 1
    return done / taken


def main():
    program, model, sample, seconds = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(Path(model, "model.onnx"), options)
    [name] = (given.name for given in session.get_inputs())

    def classify(data):
        _, small = look(data)
        [output] = session.run(None, {name: view(small)})
        return output[0].argmax()

    command = [program, f"{model}/model.onnx", f"{model}/labels.txt"]
    ours = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print("images a second on one core        imgsys    Python     ratio")
    with tempfile.TemporaryDirectory() as folder, Image.open(sample) as source:
        for width, height in SIZES:
            file = Path(folder, f"{width}.jpg")
            resized = source.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
            resized.save(file, quality=90)
            data = file.read_bytes()
            paces = []
            for _ in range(ROUNDS):
                print(file, seconds, file=ours.stdin, flush=True)
                without, with_model = map(float, ours.stdout.readline().split())
                theirs = pace(lambda: look(data), float(seconds))
                theirs_with = pace(lambda: classify(data), float(seconds))
                paces.append((without, theirs, with_model, theirs_with))
            medians = [statistics.median(column) for column in zip(*paces)]
            for what, (us, them) in zip(("inspect", "and classify"), (medians[:2], medians[2:])):
                print(f"{width:5} x {height:4}, {what:12} {us:17.1f} {them:9.1f} {us / them:9.2f}")
    ours.stdin.close()
    sys.exit(ours.wait())


if __name__ == "__main__":
    main()
