# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Segmenting a video of any length in bounded memory.

.. code-block:: text

    decode, resize ──queue──► windows ──► network ──► link ──queue──► write
       thread                       caller's thread                   thread

Both queues are bounded, so the slowest of the three sets the pace and what is
alive at a time are a window of frames and what the queues hold, however long
the video is. An error in any of them ends all three and reaches the caller.
"""

import ctypes
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args

import numpy as np
import torch
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torch import Tensor

from referformer.media.sources import Frame
from referformer.models import MeanScoreSelector, ReferFormer
from referformer.prediction.linking import OverlapLinker
from referformer.structures import FrameGeometry, SoftMasks

__all__ = [
    'BackgroundWriter',
    'FrameResult',
    'StreamOptions',
    'cut_windows',
    'prefetch',
    'queue_depth',
    'segment_frames',
]

Item = TypeVar('Item')
Link = Literal['none', 'overlap']
Precision = Literal['fp32', 'bf16', 'fp16']

#: Frames of a window, where neither the caller nor the model says: that of
#: the published inference on Ref-DAVIS17.
DEFAULT_WINDOW = 36
#: Bytes of frames that a queue may hold.
QUEUE_BYTES = 256 * 2**20

_END = object()


@dataclass(frozen=True)
class StreamOptions:
    """How a video is segmented.

    Attributes:
        window (int, optional): Frames T the network sees at once. None
            takes the model's own window, or else 36.
        link (Link): How the query of a window is chosen: ``'none'``, each
            window by its scores (as published); ``'overlap'``, windows
            overlap and keep to one object, see
            :class:`~referformer.prediction.linking.OverlapLinker`.
        overlap (int, optional): Frames that linked windows share. None is a
            quarter of the window.
        mask_thr (float, optional): Probability above which a pixel is
            foreground. None takes the model's.
        score_thr (float): Masks of frames that score less are emptied.
        precision (Precision): Type of the network's arithmetic.
        batch_frames (int, optional): Frames times expressions that go
            through the part of the network that reads expressions at once.
            None is 64 on a GPU, which many keep busy, and one expression on
            a CPU, whose caches are too small for more.

    Raises:
        ValueError: If a value is out of range.
    """

    window: int | None = None
    link: Link = 'none'
    overlap: int | None = None
    mask_thr: float | None = None
    score_thr: float = 0.0
    precision: Precision = 'fp32'
    batch_frames: int | None = None

    def __post_init__(self) -> None:
        for name, kind in (('link', Link), ('precision', Precision)):
            value = getattr(self, name)
            if value not in get_args(kind):
                raise ValueError(
                    f'{name} must be one of {get_args(kind)}, got {value!r}'
                )
        for name in ('window', 'batch_frames'):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        if self.mask_thr is not None and not 0 < self.mask_thr < 1:
            raise ValueError(
                f'mask_thr must be in (0, 1), got {self.mask_thr}'
            )
        if not 0 <= self.score_thr <= 1:
            raise ValueError(
                f'score_thr must be in [0, 1], got {self.score_thr}'
            )
        if self.overlap is not None and self.link == 'none':
            raise ValueError("overlap is of use with link='overlap' only")

    def window_of(self, model: ReferFormer) -> tuple[int, int]:
        """Frames of a window, and how many it shares with the next.

        Args:
            model (ReferFormer): The model to be run.

        Returns:
            tuple[int, int]: Window and overlap.

        Raises:
            ValueError: If the overlap does not fit into the window.
        """
        window = self.window or model.window or DEFAULT_WINDOW
        if self.link == 'none':
            return window, 0
        overlap = self.overlap
        if overlap is None:
            overlap = max(1, window // 4)
        if not 0 < overlap < window:
            raise ValueError(
                f'windows of {window} frames cannot be linked by {overlap} '
                'of them; the overlap must be shorter than the window'
            )
        return window, overlap


class Window(NamedTuple, Generic[Item]):
    """Consecutive frames.

    Attributes:
        number (int): Its number in the video, from 0.
        frames (list): Its frames.
        start (int): First frame it answers for.
        stop (int): End of the frames it answers for; those before ``start``
            and from ``stop`` on are answered for by its neighbours.
    """

    number: int
    frames: list[Item]
    start: int
    stop: int


@dataclass(eq=False)
class FrameResult:
    """What was found in a frame, for E expressions.

    Attributes:
        frame (Frame): The frame.
        window (int): Number of the window it was seen in.
        soft_masks (SoftMasks): E mask logits at stride 4.
        scores (np.ndarray): Scores in this frame, in [0, 1], shape (E,).
        window_scores (np.ndarray): Means over the window, shape (E,).
        boxes (np.ndarray): x1, y1, x2, y2 in pixels, inside the frame,
            shape (E, 4).
        points (np.ndarray): Reference points x, y of the chosen queries, in
            pixels, shape (E, 2).
        score_thr (float): Score below which a mask is empty.
    """

    frame: Frame
    window: int
    soft_masks: SoftMasks
    scores: np.ndarray
    window_scores: np.ndarray
    boxes: np.ndarray
    points: np.ndarray
    score_thr: float = 0.0

    @cached_property
    def masks(self) -> np.ndarray:
        """Masks at the size of the frame, bool, shape (E, H, W)."""
        masks = self.soft_masks.to_ndarray()
        masks[self.scores < self.score_thr] = False
        return masks


class _Prepared(NamedTuple):
    """A frame and what the network gets of it, uint8, (h, w, 3)."""

    frame: Frame
    image: np.ndarray


class _Candidates(NamedTuple):
    """The k best queries of a window for E expressions, on the CPU.

    Attributes:
        scores (Tensor): Shape (E, k).
        frame_scores (Tensor): Shape (E, k, T).
        boxes (Tensor): x1, y1, x2, y2 relative to the frame, (E, k, T, 4).
        points (Tensor): x, y relative to the frame, shape (E, k, T, 2).
        masks (Tensor): Logits at stride 4, shape (E, k, T, h, w).
    """

    scores: Tensor
    frame_scores: Tensor
    boxes: Tensor
    points: Tensor
    masks: Tensor


class _Slots:
    """A bounded queue that Ctrl-C cannot leave locked.

    The locks of :class:`queue.Queue` are taken in Python: an interrupt right
    after leaves them taken, and everybody waiting.

    Args:
        depth (int): Items it may hold.
    """

    def __init__(self, depth: int) -> None:
        self._items: queue.SimpleQueue = queue.SimpleQueue()
        self._free: queue.SimpleQueue = queue.SimpleQueue()
        for _ in range(depth):
            self._free.put(None)

    def put(self, item: Any, timeout: float | None = None) -> None:
        """Add an item; waits while full, raises queue.Empty in the end."""
        self._free.get(timeout=timeout)
        self._items.put(item)

    def put_at_once(self, item: Any) -> None:
        """Add an item, even to a full queue."""
        self._items.put(item)

    def get(self) -> Any:
        """Take the oldest item; waits for one."""
        item = self._items.get()
        self._free.put(None)
        return item


def prefetch(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """Iterate in a thread that runs ahead.

    Args:
        items (Iterable): What to iterate over.
        depth (int): Items it may be ahead.

    Yields:
        The items. An error of the thread is raised here, after the items
        before it. When the consumer stops early, so does the thread.
    """
    slots = _Slots(depth)
    stopped = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> bool:
        while not stopped.is_set():
            try:
                slots.put((item, error), timeout=0.1)
            except queue.Empty:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
                del item
            put(_END)
        except BaseException as error:
            put(_END, error)

    thread = threading.Thread(target=work, name='prefetch', daemon=True)
    thread.start()
    try:
        while True:
            item, error = slots.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
            del item
    finally:
        stopped.set()
        thread.join()


class BackgroundWriter(Generic[Item]):
    """Hand items to a function that runs in a thread, in order.

    It is a context manager. Leaving it waits until all items are written; if
    it is left by an error, those still queued are dropped. An error of the
    function is raised by the next :meth:`put` or on leaving.

    Args:
        write (Callable): Takes an item.
        depth (int): Items that may wait.
    """

    def __init__(self, write: Callable[[Item], object], depth: int) -> None:
        self._write = write
        self._slots = _Slots(depth)
        self._error: BaseException | None = None
        self._dropping = False
        # Thread.join() cannot be repeated after an interrupt in Python 3.11
        self._done: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._work, name='write', daemon=True
        )

    def _work(self) -> None:
        while (item := self._slots.get()) is not _END:
            if not self._dropping:
                try:
                    self._write(item)
                except BaseException as error:
                    # go on emptying the queue, so that nobody waits for ever
                    self._error = error
                    self._dropping = True
            del item
        self._done.put(None)

    def _finish(self) -> None:
        """Wait until the thread writes no more."""
        self._slots.put_at_once(_END)
        self._done.get()

    def put(self, item: Item) -> None:
        """Queue an item; waits while the queue is full."""
        if self._error is not None:
            raise self._error
        self._slots.put(item)

    def __enter__(self) -> 'BackgroundWriter[Item]':
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._dropping = self._dropping or error is not None
        try:
            self._finish()
        except BaseException:
            # Ctrl-C; nobody may close yet what the thread writes to
            self._dropping = True
            self._finish()
            raise
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error


def cut_windows(
    frames: Iterable[Item], length: int, overlap: int = 0
) -> Iterator[Window[Item]]:
    """Cut a stream into windows; the last may be shorter.

    Of the frames two windows share, each answers for those nearer to its
    middle.

    Args:
        frames (Iterable): The stream.
        length (int): Frames of a window.
        overlap (int): Frames that neighbours share, less than ``length``.

    Yields:
        Window: The windows in order.
    """
    number = 0
    window: list[Item] = []
    before = after = 0
    for frame in frames:
        if len(window) == length:
            # there is a next one, so the end is left to it
            after = length - (overlap - overlap // 2)
            yield Window(number, window, before, after)
            window = window[length - overlap :]
            before = overlap // 2
            number += 1
        window.append(frame)
        del frame
    if window:
        yield Window(number, window, before, len(window))


class _Network:
    """The model and the expressions it is asked.

    Args:
        model (ReferFormer): The model, in evaluation mode.
        texts (Sequence[str]): E expressions.
        options (StreamOptions): Precision, batch, link.
    """

    def __init__(
        self, model: ReferFormer, texts: Sequence[str], options: StreamOptions
    ) -> None:
        self.model = model
        self.options = options
        self.device = next(model.parameters()).device
        self.selector = None
        if options.link == 'overlap':
            # the link chooses among all queries, not the model's selector
            self.selector = MeanScoreSelector(model.queries.num_queries)
        with self._arithmetic():
            tokens = model.text_encoder.tokenize(texts)
            self.text = model.text_encoder(tokens)

    def _arithmetic(self) -> torch.autocast:
        types = {'bf16': torch.bfloat16, 'fp16': torch.float16}
        return torch.autocast(
            self.device.type,
            types.get(self.options.precision),
            enabled=self.options.precision in types,
        )

    def __call__(self, images: Sequence[np.ndarray]) -> _Candidates:
        """Look at a window.

        Args:
            images (Sequence[np.ndarray]): T frames, uint8, BGR, (h, w, 3).

        Returns:
            _Candidates: Of all expressions.
        """
        clip = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        data = self.model.data_preprocessor(
            {'inputs': [clip], 'data_samples': None}
        )
        num_expressions = len(self.text.sentence)
        batch_frames = self.options.batch_frames
        if batch_frames is None:
            batch_frames = 1 if self.device.type == 'cpu' else 64
        chunk = max(1, batch_frames // len(images))
        each = torch.arange(num_expressions, device=self.device)
        parts = []
        with self._arithmetic():
            visual = self.model.extract_feat(data['inputs'])
            for index in each.split(chunk):
                text = self.text.index_select(index)
                repeated = (
                    visual if len(index) == 1 else visual.repeat(len(index))
                )
                decoded, mask_feats = self.model.decode(repeated, text)
                selected, boxes, masks = self.model.head.predict(
                    decoded, mask_feats, repeated.sizes, self.selector
                )
                # [B, Q, 4] -> [E, T, Q, 2] -> [E, T, k, 2]
                points = decoded.references[-1][..., :2]
                points = points.unflatten(0, (len(index), -1))
                query = selected.query[:, None, :, None]
                points = points.gather(2, query.expand(-1, len(images), -1, 2))
                parts.append(
                    _Candidates(
                        selected.scores,
                        selected.frame_scores.transpose(1, 2),
                        bbox_cxcywh_to_xyxy(boxes).transpose(1, 2),
                        points.transpose(1, 2),
                        masks.transpose(1, 2),
                    )
                )
        return _Candidates(
            *(
                torch.cat(part).float().cpu()
                for part in zip(*parts, strict=True)
            )
        )


def queue_depth(window: int, frame_bytes: int) -> int:
    """Return how many frames a queue may hold.

    Args:
        window (int): Frames of a window: enough to fill one while the network
            looks at another.
        frame_bytes (int): Size of a frame; of large ones there are fewer.

    Returns:
        int: At least 2.
    """
    return max(2, min(window, QUEUE_BYTES // max(1, frame_bytes)))


def _return_freed_memory() -> None:
    """Give freed memory back to the system, where that takes asking.

    Frames are made in one thread and freed in another. glibc keeps such
    memory in pieces, ever more of them, about 50 MB in 2 000 small frames.
    """
    if sys.platform != 'linux':
        return
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:  # not in musl
        trim(0)


@torch.no_grad()
def segment_frames(
    model: ReferFormer,
    frames: Iterable[Frame],
    texts: Sequence[str],
    prepare: Callable[[np.ndarray], np.ndarray],
    options: StreamOptions | None = None,
    keep_images: bool = True,
    frame_bytes: int = 0,
) -> Iterator[FrameResult]:
    """Segment what expressions mean, frame after frame.

    What depends on the frames alone is computed once a window, whatever the
    number of expressions. Frames are read and prepared in a thread.

    Args:
        model (ReferFormer): The model, in evaluation mode.
        frames (Iterable[Frame]): The video.
        texts (Sequence[str]): E expressions, as the model was taught them.
        prepare (Callable): Frame -> what the network gets, both uint8, BGR.
        options (StreamOptions, optional): Windows, linking, thresholds.
        keep_images (bool): Whether results carry the pictures.
        frame_bytes (int): Size of a picture, to bound the queue.

    Yields:
        FrameResult: One per frame, in order.
    """
    options = options or StreamOptions()
    length, overlap = options.window_of(model)
    network = _Network(model, texts, options)
    linker = OverlapLinker()
    logit_thr = model.mask_logit_thr
    if options.mask_thr is not None:
        logit_thr = float(np.log(options.mask_thr / (1 - options.mask_thr)))
    stride = model.head.mask_head.stride

    def prepared() -> Iterator[_Prepared]:
        for frame in frames:
            ready = _Prepared(frame, prepare(frame.image))
            if not keep_images:
                frame.image = None
            del frame
            yield ready
            del ready

    def result(
        window: Window, found: _Candidates, chosen: Tensor, t: int
    ) -> FrameResult:
        frame, image = window.frames[t]
        each = torch.arange(len(chosen))
        height, width = frame.shape
        size = np.array([width, height], np.float32)
        boxes = found.boxes[each, chosen, t].clamp(0, 1).numpy()
        return FrameResult(
            frame,
            window.number,
            SoftMasks(
                # a copy, lest one frame keep the window alive
                found.masks[each, chosen, t].clone(),
                FrameGeometry(image.shape[:2], frame.shape, stride),
                logit_thr,
                model.mask_resize,
            ),
            found.frame_scores[each, chosen, t].numpy(),
            found.scores[each, chosen].numpy(),
            boxes * np.tile(size, 2),
            found.points[each, chosen, t].numpy() * size,
            options.score_thr,
        )

    ahead = prefetch(prepared(), queue_depth(length, frame_bytes))
    try:
        for window in cut_windows(ahead, length, overlap):
            found = network([image for _, image in window.frames])
            if overlap:
                chosen = linker.choose(
                    found.scores, found.masks > logit_thr, overlap
                )
            else:
                chosen = torch.zeros(len(texts), dtype=torch.int64)
            for t in range(window.start, window.stop):
                yield result(window, found, chosen, t)
            del window, found
            _return_freed_memory()
    finally:
        ahead.close()
