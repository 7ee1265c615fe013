# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Ref-DAVIS17: each object described four times."""

from collections import defaultdict
from typing import ClassVar

from referformer.datasets.ref_youtube_vos import RefYouTubeVOSDataset
from referformer.errors import DataError, report_error
from referformer.formats.davis_text import NUM_ANNOTATORS
from referformer.registry import DATASETS


@DATASETS.register_module()
class RefDAVISDataset(RefYouTubeVOSDataset):
    """Ref-DAVIS17, converted by ``davis_to_ytvos.py``.

    Files and arguments are those of :class:`RefYouTubeVOSDataset`. What is
    particular is the numbering of the expressions: ``4 * k + annotator`` is
    what an annotator (0 to 3) says of the k-th object. The protocol scores
    one annotator at a time, so the annotator (int) is a fact of the
    expression here, under the key ``annotator``.

    Raises:
        DataError: If the expressions of a video are not numbered like that.
    """

    # fmt: off
    CATEGORIES: ClassVar[tuple[str, ...]] = (
        'airplane', 'backpack', 'ball', 'bear', 'bicycle', 'bird', 'boat',
        'bottle', 'box', 'bus', 'camel', 'car', 'carriage', 'cat',
        'cellphone', 'chamaleon', 'cow', 'deer', 'dog', 'dolphin', 'drone',
        'elephant', 'excavator', 'fish', 'goat', 'golf cart', 'golf club',
        'grass', 'guitar', 'gun', 'helicopter', 'horse', 'hoverboard', 'kart',
        'key', 'kite', 'koala', 'leash', 'lion', 'lock', 'mask',
        'microphone', 'monkey', 'motorcycle', 'oar', 'paper', 'paraglide',
        'person', 'pig', 'pole', 'potted plant', 'puck', 'rack', 'rhino',
        'rope', 'sail', 'scale', 'scooter', 'selfie stick', 'sheep',
        'skateboard', 'ski', 'ski poles', 'snake', 'snowboard', 'stick',
        'stroller', 'surfboard', 'swing', 'tennis racket', 'tractor',
        'trailer', 'train', 'truck', 'turtle', 'varanus', 'violin',
        'wheelchair',
    )
    # fmt: on
    SUBSET_HINT = (
        'convert the whole set with '
        'tools/dataset_converters/davis_to_ytvos.py, or set '
        'expected_videos for a part of it.'
    )

    def load_expressions(self) -> list[dict]:
        """Return one dict per (video, expression)."""
        clips = super().load_expressions()
        spoken: dict[tuple[str, int], list[dict]] = defaultdict(list)
        for clip in clips:
            if not clip['exp_id'].isdecimal():
                raise self._misnumbered(clip)
            k, clip['annotator'] = divmod(int(clip['exp_id']), NUM_ANNOTATORS)
            spoken[clip['video_id'], k].append(clip)
        for said in spoken.values():
            annotators = sorted(clip['annotator'] for clip in said)
            if (
                annotators != list(range(NUM_ANNOTATORS))
                or len({clip['obj_id'] for clip in said}) > 1
            ):
                report_error(self._misnumbered(said[0]))
        return clips

    def _misnumbered(self, clip: dict) -> DataError:
        """Return the error that an expression has no place in the order."""
        return DataError(
            f'{self.ann_file}: expression {clip["exp_id"]} of video '
            f'{clip["video_id"]} is not one of four, numbered 4 * k to '
            '4 * k + 3, about one object',
            file=self.ann_file,
            remedy='convert the set with '
            'tools/dataset_converters/davis_to_ytvos.py.',
            code='annotators-incomplete',
        )
