#!/usr/bin/env python3
"""Images a second on one core: imgsys, and Pillow, numpy and onnxruntime doing the same.

analysis.py PACE MODEL_FOLDER SAMPLE SECONDS

PACE is imgsys' example of that name: of each line on its standard input, a file and seconds, it says
how many images a second it analyses, without and with the model. The sample, enlarged to each size and
saved as JPEG, is analysed by both in turn, three times; the medians are compared. Seconds are those of
the processor, so that what else runs on the machine counts for little.

Python does it twice over: once all of the picture is decoded, as imgsys does; once libjpeg decodes it
to a smaller scale (`Image.draft`), at least twice the size that is wanted. That is much faster for
large JPEGs and gives nearly the same small image: its sharpness is off by some percent. Colours are
found in numpy by imgsys' own way, 32 x 32 x 32 bins; Pillow's `quantize` takes 40 to 200 times as long
for it."""

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
COLORS, COLOR_ROUNDS = 5, 4
LUMA = numpy.array([0.299, 0.587, 0.114], numpy.float32)


def dct_matrix(size):
    k, n = numpy.mgrid[:size, :size]
    return numpy.cos(numpy.pi / size * (n + 0.5) * k).astype(numpy.float32)


DCT = dct_matrix(32)


def split(bins, counts):
    """The means of five boxes of bins: the box that varies most is cut, at the mean of its widest axis."""
    boxes = [numpy.arange(len(bins))]
    while len(boxes) < COLORS:
        widest = (0, 0, 0, 0)
        for index, box in enumerate(boxes):
            weights = counts[box, None]
            mean = (bins[box] * weights).sum(0) / weights.sum()
            spread = ((bins[box] - mean) ** 2 * weights).sum(0)
            axis = spread.argmax()
            widest = max(widest, (spread[axis], index, axis, mean[axis]))
        spread, index, axis, mean = widest
        if spread <= 0:
            break
        box = boxes.pop(index)
        is_low = bins[box, axis] <= mean
        boxes += [box[is_low], box[~is_low]]
    return numpy.array([numpy.average(bins[box], 0, counts[box]) for box in boxes])


def dominant(pixels):
    """The commonest colours and how many pixels have each: a histogram, boxes, and k-means."""
    places = (pixels.reshape(-1, 3) >> 3) @ numpy.array([1024, 32, 1], numpy.uint16)
    counts = numpy.bincount(places, minlength=1 << 15)
    [places] = counts.nonzero()
    counts = counts[places].astype(numpy.float64)
    bins = numpy.stack([places >> 10, places >> 5 & 31, places & 31], 1) * 8.0 + 4
    weighted = bins * counts[:, None]
    means = split(bins, counts)
    for _ in range(COLOR_ROUNDS):
        # The square of the bin itself is the same for all means.
        closest = ((means**2).sum(1) - 2 * bins @ means.T).argmin(1)
        shares = numpy.bincount(closest, counts, len(means))
        sums = [numpy.bincount(closest, levels, len(means)) for levels in weighted.T]
        means = numpy.stack(sums, 1) / numpy.maximum(shares, 1)[:, None]
    return means, shares


def look(data, scaled):
    """What imgsys' inspect finds, by the same formulas or their nearest in Pillow and numpy."""
    image = Image.open(io.BytesIO(data))
    exif = dict(image.getexif())
    shorter = min(image.size)
    size = [max(1, round(side * SMALL / shorter)) for side in image.size]
    if scaled:
        image.draft("RGB", [2 * side for side in size])
    image = image.convert("RGB").resize(size, Image.Resampling.BICUBIC, reducing_gap=3)
    small = ImageOps.exif_transpose(image)
    pixels = numpy.asarray(small)
    luma = pixels.astype(numpy.float32) @ LUMA
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    shadows, highlights = (luma <= 3).mean(), (luma >= 252).mean()
    colors = dominant(pixels)
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
    """How often in a second of the processor `work` is done."""
    work()
    done, begin = 0, time.process_time()
    while (taken := time.process_time() - begin) < seconds:
        work()
        done += 1
    return done / taken


def main():
    program, model, sample, seconds = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(Path(model, "model.onnx"), options)
    [name] = (given.name for given in session.get_inputs())

    def classify(data, scaled):
        _, small = look(data, scaled)
        [output] = session.run(None, {name: view(small)})
        return output[0].argmax()

    command = [program, f"{model}/model.onnx", f"{model}/labels.txt"]
    ours = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print("images a second of one core           imgsys    Python     ratio  Python, scaled     ratio")
    with tempfile.TemporaryDirectory() as folder, Image.open(sample) as source:
        for width, height in SIZES:
            file = Path(folder, f"{width}.jpg")
            resized = source.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
            resized.save(file, quality=90)
            data = file.read_bytes()
            paces = []
            for _ in range(ROUNDS):
                print(file, seconds, file=ours.stdin, flush=True)
                row = list(map(float, ours.stdout.readline().split()))
                for work in (look, classify):
                    for scaled in (False, True):
                        row.append(pace(lambda: work(data, scaled), float(seconds)))
                paces.append(row)
            without, with_model, *theirs = [statistics.median(column) for column in zip(*paces)]
            rows = (("inspect", without, theirs[:2]), ("and classify", with_model, theirs[2:]))
            for what, us, (them, them_scaled) in rows:
                print(
                    f"{width:5} x {height:4}, {what:12} {us:20.1f} {them:9.1f} {us / them:9.2f}",
                    f"{them_scaled:15.1f} {us / them_scaled:9.2f}",
                    flush=True,
                )
    ours.stdin.close()
    sys.exit(ours.wait())


if __name__ == "__main__":
    main()
