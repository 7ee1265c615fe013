# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Draw docs/gallery.md: drawn videos with the masks of the example model.

For each cue by which objects may be told apart, the first video of one seed
is shown, whatever its scores are.

Example:
    python tools/misc/draw_gallery.py
"""

import argparse
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from referformer.utils.cli import run

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs' / 'gallery.md'
PICTURES = 'assets/gallery'
SEED = 1
FPS = 3
_BLOCK = re.compile(r'(?<=<!-- gallery -->\n).*(?=<!-- /gallery -->)', re.S)


def main(argv: list[str] | None = None) -> None:
    """Write the pictures, and the part of the page that shows them."""
    parser = argparse.ArgumentParser(
        description='Draw the pictures of docs/gallery.md again, after a '
        'change of the example model.'
    )
    parser.parse_args(argv)
    text = PAGE.read_text('utf-8')
    sections = ''.join(_sections())
    block = f'\nWeights with SHA-256 `{fingerprint()}...`.\n\n{sections}'

    from referformer.formats.files import write_atomic

    write_atomic(PAGE, _BLOCK.sub(lambda _: block, text))


def fingerprint() -> str:
    """Return the beginning of the hash of the example model's weights."""
    from referformer.apis import example_model

    weights = example_model() / 'model.safetensors'
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:12]


def _sections() -> Iterator[str]:
    """Draw a video for each cue, and yield the Markdown that shows it."""
    from referformer.apis import ReferInferencer, example_model
    from referformer.formats.files import write_atomic
    from referformer.media.animation import encode_animation
    from referformer.testing.example_video import draw_example
    from referformer.testing.motion_scenes.cast import CUES

    inferencer = ReferInferencer.from_pretrained(
        example_model(), 'cpu', show_progress=False
    )
    for cue in CUES:
        video = draw_example(SEED, cue)
        result = inferencer(video.frames, video.texts, masks='array')
        found = result['predictions'][0].expressions
        masks = [each.masks for each in found]
        path = PAGE.parent / PICTURES / f'{cue}.webp'
        write_atomic(path, encode_animation(video.draw(masks), FPS))
        rows = ''.join(
            f'| {each.text} | {each.scores.mean():.2f} | {100 * j:.0f} |\n'
            for each, j in zip(found, video.overlaps(masks), strict=True)
        )
        yield (
            f'### {cue.capitalize()}\n\n'
            f'![Moving picture: {"; ".join(video.texts)}]'
            f'({PICTURES}/{path.name})\n\n'
            f'| Sentence | Score | J |\n| --- | --- | --- |\n{rows}\n'
        )


if __name__ == '__main__':
    run(main)
