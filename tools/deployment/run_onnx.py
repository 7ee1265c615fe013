# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Segment a video with an exported model, without PyTorch.

It needs onnxruntime, numpy and PyAV (and tokenizers, where the model has a
tokenizer.json), and nothing of this package: copy this file and the exported
folder to another machine, or read here what a runtime in another language has
to do.

Example:
    python run_onnx.py dogs.mp4 "the black dog" --model r50_onnx --out out
"""

import argparse
import json
import re
import shutil
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PICTURES = ('.bmp', '.jpg', '.jpeg', '.png', '.tif', '.tiff', '.webp')


class Frame(NamedTuple):
    """A frame of the video.

    Attributes:
        name (str): Name of its files.
        time (float): Seconds from the beginning.
        image (np.ndarray): uint8, BGR, shape (H, W, 3).
    """

    name: str
    time: float
    image: np.ndarray


# -- the video ----------------------------------------------------------------


def read_frames(path: Path) -> Iterator[Frame]:
    """Read a video, a picture, or a folder of pictures by their names."""
    if path.is_dir():
        files = [f for f in path.iterdir() if f.suffix.lower() in PICTURES]
        if not files:
            raise SystemExit(f'run_onnx.py: {path} holds no pictures.')
        for number, file in enumerate(sorted(files, key=_natural)):
            [(image, _)] = _decode(file)
            yield Frame(file.stem, number / 6, image)
        return
    is_picture = path.suffix.lower() in PICTURES
    for number, (image, time) in enumerate(_decode(path)):
        yield Frame(path.stem if is_picture else f'{number:05d}', time, image)


def _natural(path: Path) -> list:
    """Sort 2.png before 10.png."""
    parts = re.split(r'(\d+)', path.stem)
    return [(int(p), '') if p.isdecimal() else (-1, p) for p in parts]


def _decode(path: Path) -> Iterator[tuple[np.ndarray, float]]:
    """Decode frames as a display shows them, upright with square pixels."""
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise SystemExit(f'run_onnx.py: {path} holds no video.')
            [stream, *_] = container.streams.video
            aspect = float(stream.sample_aspect_ratio or 1)
            first = None
            for frame in container.decode(stream):
                size = {}
                if aspect > 1:
                    size = {'width': round(frame.width * aspect)}
                elif 0 < aspect < 1:
                    size = {'height': round(frame.height / aspect)}
                image = frame.to_ndarray(format='bgr24', **size)
                first = frame.time if first is None else first
                yield _upright(image, frame), (frame.time or 0) - (first or 0)
    except (OSError, ValueError) as error:
        raise SystemExit(f'run_onnx.py: {path}: {error}') from error


def _upright(image: np.ndarray, frame: Any) -> np.ndarray:
    """Apply the display matrix: x' = a x + c y, y' = b x + d y."""
    matrix = frame.side_data.get('DISPLAYMATRIX')
    if matrix is None:
        return image
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        image, a, d = image.transpose(1, 0, 2), c, b
    image = image[:, ::-1] if a < 0 else image
    return image[::-1] if d < 0 else image


# -- what goes into the graphs ------------------------------------------------


def network_size(height: int, width: int, resize: dict) -> tuple[int, int]:
    """Height and width of the network's frame; fractions are cut off."""
    short, longest = resize['short_side'], resize['max_long_side']
    low, high = sorted((height, width))
    if longest is not None and high / low * short > longest:
        short = round(longest * low / high)
    if low == short:
        return height, width
    if width < height:
        return int(short * height / width), short
    return short, int(short * width / height)


def shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize as Pillow's bilinear filter does: a triangle over all pixels."""
    if image.shape[1] != size[1]:
        image = _filtered(image.transpose(1, 0, 2), size[1]).transpose(1, 0, 2)
    return image if image.shape[0] == size[0] else _filtered(image, size[0])


def _filtered(image: np.ndarray, length: int) -> np.ndarray:
    """Resize the rows of an image, uint8, (n, m, 3) to (length, m, 3)."""
    number = image.shape[0]
    scale = number / length
    support = max(scale, 1.0)
    centre = (np.arange(length)[:, None] + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(int), 0)
    last = np.minimum((centre + support + 0.5).astype(int), number)
    place = first + np.arange((last - first).max())
    weights = 1 - np.abs((place + 0.5 - centre) / support)
    weights = np.where(place < last, weights.clip(0), 0)
    weights /= weights.sum(1, keepdims=True)
    # Pillow's whole numbers, hence its rounding
    weights = np.floor(weights * 2**22 + 0.5).astype(np.int32)
    place = place.clip(max=number - 1)
    total = np.full((length, *image.shape[1:]), 2**21, np.int32)
    for tap in range(place.shape[1]):
        total += weights[:, tap, None, None] * image[place[:, tap]]
    return (total >> 22).clip(0, 255).astype(np.uint8)


def tokenize(texts: list[str], model: dict, folder: Path) -> list[np.ndarray]:
    """Turn E expressions into ids and attention mask, int64, (E, L) each."""
    rule = model['text']['tokenizer']
    texts = [' '.join(text.split()) for text in texts]
    if model['text']['lower_case']:
        texts = [text.lower() for text in texts]
    if rule['type'] == 'hash':
        rows = [_hashed(text, rule['vocab_size']) for text in texts]
    else:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / rule['file']))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        rows = [tokenizer.encode(text).ids for text in texts]
    length = max(map(len, rows))
    if length > rule['max_length']:
        raise SystemExit('run_onnx.py: an expression is too long; shorten it.')
    ids = np.full((len(rows), length), rule['pad_id'], np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return [ids, mask]


def _hashed(text: str, vocab_size: int) -> list[int]:
    """Start, CRC-32 of each word among the free ids, end."""
    words = re.findall(r'\w+|[^\w\s]', text.lower())
    return [
        0,
        *(4 + zlib.crc32(w.encode()) % (vocab_size - 4) for w in words),
        2,
    ]


# -- what comes out -----------------------------------------------------------


def enlarge(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (n, h, w) bilinearly, without aligned corners."""
    rows = _linear(maps.shape[1], size[0])
    return rows @ (maps @ _linear(maps.shape[2], size[1]).T)


def _linear(length: int, wanted: int) -> np.ndarray:
    """Weights of the two neighbours, float32, shape (wanted, length)."""
    place = (np.arange(wanted) + 0.5) * (length / wanted) - 0.5
    place = place.clip(0).astype(np.float32)
    low = place.astype(int)
    weights = np.zeros((wanted, length), np.float32)
    number = np.arange(wanted)
    weights[number, low] = 1 - (place - low)
    weights[number, np.minimum(low + 1, length - 1)] += place - low
    return weights


def masks_of(
    logits: np.ndarray,
    network: tuple[int, int],
    original: tuple[int, int],
    rule: dict,
) -> np.ndarray:
    """Masks of the original frames, bool, (n, H, W), of logits (n, h, w)."""
    threshold = np.log(rule['threshold'] / (1 - rule['threshold']))
    if rule['resize'] == 'direct':
        return enlarge(logits, original) > threshold
    stride = rule['stride']
    full = enlarge(logits, tuple(side * stride for side in logits.shape[1:]))
    masks = full[:, : network[0], : network[1]] > threshold
    rows, cols = (
        (np.arange(out, dtype=np.float32) * np.float32(into / out)).astype(int)
        for into, out in zip(network, original, strict=True)
    )
    return masks[:, rows][:, :, cols]


def write_png(path: Path, mask: np.ndarray) -> None:
    """Write a mask as a grey PNG of 0 and 255."""
    height, width = mask.shape
    rows = np.zeros((height, width + 1), np.uint8)  # filter 0, then pixels
    rows[:, 1:][mask] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('wb') as file:
        file.write(b'\x89PNG\r\n\x1a\n')
        for kind, data in (
            (b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)),
            (b'IDAT', zlib.compress(rows.tobytes(), 3)),
            (b'IEND', b''),
        ):
            file.write(struct.pack('>I', len(data)) + kind + data)
            file.write(struct.pack('>I', zlib.crc32(kind + data)))


def folder_name(number: int, text: str) -> str:
    """Name of an expression's folder, such as ``00-the-black-dog``."""
    words = re.sub(r'\W+', '-', text.lower()).strip('-').encode()[:60]
    words = words.decode(errors='ignore').strip('-')
    return f'{number:02d}-{words}' if words else f'{number:02d}'


# -- the model ----------------------------------------------------------------


class Model:
    """The three graphs of an exported folder.

    Args:
        folder (Path): From ``tools/deployment/export.py``.
        threads (int): Threads of an operator; 0 lets onnxruntime choose.
        providers (list[str], optional): Of onnxruntime, by preference.
    """

    def __init__(
        self,
        folder: Path,
        threads: int = 0,
        providers: list[str] | None = None,
    ) -> None:
        import onnxruntime

        self.folder = folder
        try:
            self.facts = json.loads((folder / 'model.json').read_text('utf-8'))
        except (OSError, ValueError) as error:
            raise SystemExit(f'run_onnx.py: {folder}: {error}') from error
        if self.facts['kind'] != 'onnx' or self.facts['format'] != 1:
            raise SystemExit(
                f'run_onnx.py: {folder} is not an ONNX export that this '
                'version reads; export it again with --format onnx.'
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.sessions = {
            name: onnxruntime.InferenceSession(
                str(folder / graph['file']),
                options,
                providers or ['CPUExecutionProvider'],
            )
            for name, graph in self.facts['graphs'].items()
        }

    def run(self, name: str, values: dict[str, Any]) -> dict[str, np.ndarray]:
        """Run a graph on values by name; what it does not take is left."""
        session = self.sessions[name]
        taken = {i.name: values[i.name] for i in session.get_inputs()}
        names = list(self.facts['graphs'][name]['outputs'])
        return dict(zip(names, session.run(names, taken), strict=True))

    def encode_text(self, texts: list[str]) -> dict[str, np.ndarray]:
        """Encode E expressions."""
        ids, mask = tokenize(texts, self.facts, self.folder)
        return self.run('text', {'ids': ids, 'attention_mask': mask})

    def encode_frames(self, images: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Encode frames, uint8, BGR, of one size."""
        size = images[0].shape[:2]
        if self.facts['resize']:
            size = network_size(*size, self.facts['resize'])
        clip = np.stack([shrink(image, size) for image in images])
        if self.facts['channels'] == 'RGB':
            clip = clip[..., ::-1]
        mean, std = (
            np.array(self.facts[key], np.float32) for key in ('mean', 'std')
        )
        clip = ((clip - mean) / std).transpose(0, 3, 1, 2)
        maps = self.run('frames', {'frames': np.ascontiguousarray(clip)})
        return {**maps, 'frame_size': np.array(size, np.int64)}

    def segment(
        self, images: list[np.ndarray], text: dict[str, np.ndarray]
    ) -> Iterator[dict[str, np.ndarray]]:
        """Segment a window of T frames.

        Yields:
            dict: For each expression its ``score``, and per frame
            ``frame_scores`` (T,), ``boxes`` (T, 4) as x1, y1, x2, y2 in
            pixels, and ``masks`` (T, H, W).
        """
        visual = self.encode_frames(images)
        rule, shape = self.facts['masks'], images[0].shape[:2]
        network = tuple(visual['frame_size'].tolist())
        # one at a time: caches of a CPU hold no more
        for e in range(len(text['sentence'])):
            one = {key: value[e : e + 1] for key, value in text.items()}
            found = self.run('decode', {**visual, **one})
            scores = found['frame_scores'][0, :, 0]
            masks = masks_of(found['masks'][0, :, 0], network, shape, rule)
            masks[scores < rule['score_threshold']] = False
            yield {
                'score': found['scores'][0, 0],
                'frame_scores': scores,
                'boxes': found['boxes'][0, :, 0].clip(0, 1)
                * np.array([*shape[::-1], *shape[::-1]], np.float32),
                'masks': masks,
            }


def segment_video(
    model: Model, video: Path, texts: list[str], out: Path, window: int
) -> np.ndarray:
    """Write masks and results.json of a video.

    Returns:
        np.ndarray: Scores of the expressions in each frame, (frames, E).
    """
    text = model.encode_text(texts)
    folders = [folder_name(i, each) for i, each in enumerate(texts)]
    windows, rows = [], []

    def finish(frames: list[Frame]) -> None:
        start = len(rows)
        found = list(model.segment([frame.image for frame in frames], text))
        scores = [round(float(one['score']), 4) for one in found]
        windows.append({'start': start, 'scores': scores})
        for t, frame in enumerate(frames):
            for folder, one in zip(folders, found, strict=True):
                path = out / 'masks' / folder / f'{frame.name}.png'
                write_png(path, one['masks'][t])
            scores = [round(float(one['frame_scores'][t]), 4) for one in found]
            boxes = [one['boxes'][t].astype(float).round(2) for one in found]
            rows.append(
                {
                    'name': frame.name,
                    'index': start + t,
                    'time': round(float(frame.time), 6),
                    'window': len(windows) - 1,
                    'scores': scores,
                    'boxes': [box.tolist() for box in boxes],
                }
            )
        print(f'\r{len(rows)} frames', end='', file=sys.stderr, flush=True)

    frames: list[Frame] = []
    for frame in read_frames(video):
        if frames and frame.image.shape != frames[0].image.shape:
            raise SystemExit(f'run_onnx.py: {video}: frames differ in size.')
        if len(frames) == window:
            finish(frames)
            frames = []
        frames.append(frame)
    if not frames:
        raise SystemExit(f'run_onnx.py: {video} holds no frame.')
    finish(frames)
    print(file=sys.stderr)
    expressions = [{'text': each} for each in texts]
    content = {
        'expressions': expressions,
        'frames': rows,
        'windows': windows,
    }
    text_of = json.dumps(content, ensure_ascii=False, indent=1)
    (out / 'results.json').write_text(text_of, 'utf-8')
    return np.array([row['scores'] for row in rows])


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, that of the process by default."""
    parser = argparse.ArgumentParser(
        description='Segment a video with an exported model, without PyTorch.'
    )
    parser.add_argument(
        'video', type=Path, help='video file, folder of pictures, or picture'
    )
    parser.add_argument('expressions', nargs='+', metavar='EXPRESSION')
    parser.add_argument(
        '--model',
        type=Path,
        required=True,
        metavar='DIR',
        help='folder that tools/deployment/export.py has written',
    )
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='DIR',
        help='DIR/<video>/ gets results.json and masks/',
    )
    parser.add_argument(
        '--window', type=int, help="frames seen at once (default: the model's)"
    )
    parser.add_argument(
        '--threads', type=int, default=0, help='0 (default): all processors'
    )
    parser.add_argument(
        '--providers',
        nargs='+',
        default=['CPUExecutionProvider'],
        help='of onnxruntime (default: CPUExecutionProvider)',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Segment the video and say what was found."""
    args = parse_args(argv)
    if any(not text.strip() for text in args.expressions):
        raise SystemExit('run_onnx.py: an expression must not be empty.')
    if args.window is not None and args.window < 1:
        raise SystemExit('run_onnx.py: --window must be at least 1.')
    if not args.video.exists():
        raise SystemExit(f'run_onnx.py: {args.video} does not exist.')
    model = Model(args.model, args.threads, args.providers)
    is_dir = args.video.is_dir()
    name = args.video.resolve().name if is_dir else args.video.stem
    folder = args.out / name
    if folder.exists() and not (folder / 'results.json').is_file():
        raise SystemExit(
            f'run_onnx.py: {folder} exists and was not written by this tool; '
            'choose another --out.'
        )
    part = args.out / f'.{name}.part'
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        window = args.window or model.facts['window']
        scores = segment_video(
            model, args.video, args.expressions, part, window
        )
        folder.mkdir(exist_ok=True)
        shutil.rmtree(folder / 'masks', ignore_errors=True)
        for part_of in ('masks', 'results.json'):
            (part / part_of).replace(folder / part_of)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for text, score in zip(args.expressions, scores.mean(0), strict=True):
        print(f'{score:5.2f}  {text}')
    print(folder)


if __name__ == '__main__':
    main()
