# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""JHMDB-Sentences."""

from pathlib import Path

from mmengine.logging import MMLogger

from referformer.datasets.base_refer_dataset import BaseReferDataset
from referformer.formats.frames import check_present
from referformer.formats.jhmdb import (
    PAGE,
    JHMDBSample,
    identify_frames,
    read_samples,
)
from referformer.registry import DATASETS


@DATASETS.register_module()
class JHMDBSentencesDataset(BaseReferDataset):
    """JHMDB-Sentences, on which models of A2D-Sentences are scored.

    ::

        data_root/
        ├── Rename_Images/<action>/<video>/<frame>.png
        ├── puppet_mask/<action>/<video>/puppet_mask.mat
        └── jhmdb_sentences_samples_metadata.json

    An item is a frame to be scored; three of each video were chosen. The
    annotation file is a list of ``[video, path of the frame, path of the
    masks, number of frames, expression]``. Frames are numbered from 1.

    Args:
        **kwargs: Arguments of :class:`BaseReferDataset`, except
            ``group_by_video``: the items of a video show different frames.
    """

    ONE_FRAME_EACH = True

    def load_expressions(self) -> list[dict]:
        """Return one dict per frame to be scored."""
        samples = read_samples(self.ann_file)
        clips = list(map(self._make_clip, samples))
        names = {clip['image_id'] for clip in clips}
        if len(names) < len(clips):
            self.report(
                'row-repeated',
                f'of {len(clips)} rows only {len(names)} are about different '
                f'frames; make it again, see {PAGE}.',
            )
        folders = {sample.image.parent.as_posix() for sample in samples}
        check_present(self.data_root or '.', folders, self.ann_file, PAGE)
        return clips

    def filter_data(self) -> list[dict]:
        """Keep all clips, and say whose choice of frames they are."""
        clips = super().filter_data()
        choice = identify_frames(clip['image_id'] for clip in clips)
        if choice is not None:
            log = MMLogger.get_current_instance()
            say = log.info if choice.published else log.warning
            say('%s: %s', self.ann_file, choice.text)
        return clips

    def _make_clip(self, sample: JHMDBSample) -> dict:
        """Turn a row of the samples metadata into a clip."""
        root = Path(self.data_root or '')
        name = f'f_{sample.frame}'
        return {
            'video_id': sample.video,
            'exp_id': name,
            'image_id': f'v_{sample.video}_{name}',
            'text': sample.text,
            'obj_id': '1',
            'label': 0,
            'video_length': sample.num_frames,
            'frame_names': [f'{i + 1:05d}' for i in range(sample.num_frames)],
            'img_dir': str(root / sample.image.parent),
            'img_suffix': sample.image.suffix,
            'masks_file': str(root / sample.masks),
            'annotated_frame_id': sample.frame - 1,
        }
