# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Everything the data doctor can find: code -> what is wrong, what helps."""

ERRORS = {
    # files and tables
    'split-missing': 'the split is not there',
    'folder-missing': (
        'a folder does not exist; extract the archive completely'
    ),
    'folder-misplaced': (
        'a folder lies in another place, or under another name, than the '
        'loader expects; move it'
    ),
    'file-missing': 'a file does not exist',
    'not-converted': 'this is the download; run the converter on it',
    'json-broken': 'a file is not valid JSON; download or convert it again',
    'table-wrong': (
        'a file does not hold what it should; download or convert it again'
    ),
    'row-wrong': (
        'a row of the annotation file is malformed; convert the set again'
    ),
    'row-repeated': (
        'two rows have the same name, so their predictions would be mixed '
        'up; convert the set again'
    ),
    'name-unsafe': (
        'a name leads out of the folder it belongs to; do not use this file'
    ),
    'count-wrong': (
        'not as many as the config expects, which will refuse to start'
    ),
    'data-wrong': 'a file does not hold what it should',
    'load-failed': (
        'the code that reads an item stops with an error that is not about '
        'the data; set a breakpoint there'
    ),
    # expressions
    'expression-empty': 'an expression has no words',
    'expression-none': 'a video has no expression',
    'object-id-missing': (
        'a training expression does not say which object it means (obj_id)'
    ),
    'object-id-wrong': 'an object id is no number from 1 to 255',
    # videos as folders of frames
    'video-missing': (
        'a video of the annotation file is not there; extract the archive '
        'completely'
    ),
    'frame-missing': (
        'a listed frame does not exist; extract the archive again'
    ),
    'frame-broken': (
        'a frame is damaged or no image; extract the archive again'
    ),
    'frame-size-differs': (
        'a frame has another size than the first one of its video'
    ),
    'frame-listed-twice': 'a frame is listed twice',
    'frames-disordered': (
        'the list of frames is not sorted, so masks and frames may not '
        'belong together'
    ),
    'frames-none': 'a video lists no frames',
    # masks as images
    'mask-missing': (
        'the masks of a frame do not exist; extract the archive again'
    ),
    'mask-broken': 'masks cannot be read; extract the archive again',
    'mask-size-differs': 'masks have another size than their frame',
    'mask-transposed': (
        'masks lie on their side: height and width are exchanged'
    ),
    'mask-not-indexed': (
        'a mask is no indexed PNG; it must hold object ids, not colours'
    ),
    'mask-binary': (
        'the masks of a video are 0 / 255 images, but 255 means void; they '
        'must hold object ids'
    ),
    # meta.json
    'meta-missing': (
        'meta.json does not exist; it lies in the archive of the training '
        'videos'
    ),
    'meta-video-missing': (
        'meta.json does not know a video; the files belong to different splits'
    ),
    'object-not-in-meta': (
        'an expression means an object that meta.json does not know'
    ),
    # splits
    'split-overlap': 'something to be tested is trained on',
    'test-list-missing': (
        'the expressions of "test" are missing; "valid" lists those videos '
        'too, and they must be taken out'
    ),
    'test-list-foreign': (
        'the files of "valid" and "test" share no video, so nothing is '
        'taken out; they are of different releases'
    ),
    # Ref-DAVIS17
    'annotators-incomplete': (
        'an object has not one expression of each of the four annotators, '
        'numbered 4 k to 4 k + 3'
    ),
    'video-misspelt': (
        'a video is spelt as in the text files, not as its folder; convert '
        'the set again'
    ),
    'masks-semisupervised': (
        'masks are those of the semi-supervised edition, whose ids differ; '
        'use Annotations_unsupervised'
    ),
    # videos as files
    'video-broken': (
        'a video cannot be decoded, or not to its end; copy or download it '
        'again'
    ),
    'video-short': (
        'a video ends before an annotated frame; extract the archive again'
    ),
    'split-wrong': 'a video is in another split than videoset.csv says',
    'instance-missing': (
        'the masks of a frame lack the instance that an expression means'
    ),
    'instance-copy': (
        'an instance is called "1 (copy)", a slip of the release; convert '
        'the set again, which drops it'
    ),
    'truth-differs': (
        'the ground truth for scoring is not about the sentences of the '
        'test split; convert the set again'
    ),
    # JHMDB
    'path-outside': 'a path does not lead into the folders of the set',
    'frames-from-zero': 'frames are numbered from 0; here they begin with 1',
    'masks-short': 'the masks of a video end before a frame that is scored',
    # RefCOCO
    'image-missing': (
        'an image does not exist; extract train2014.zip completely'
    ),
    'image-broken': 'an image is damaged; extract train2014.zip again',
    'image-size-differs': (
        'an image has another size than the annotation file says'
    ),
    'image-id-mismatch': (
        'the number in the name of an image is not its original_id; convert '
        'the set again'
    ),
    'sentence-id-repeated': (
        'two sentences have the same id; convert the set again'
    ),
    'annotation-mismatch': (
        'sentences and annotations do not belong together one by one; '
        'convert the set again'
    ),
    'segmentation-broken': 'a segmentation is empty or malformed',
    'box-wrong': 'a box is not four numbers x, y, width, height with an area',
    'set-mixed': (
        'the file belongs to another set or another way of splitting it '
        '(unc, umd, google)'
    ),
    # MeViS
    'masks-of-frames-differ': (
        'an annotation has not one mask (or null) for each frame; the files '
        'are of different releases'
    ),
    'annotation-unknown': (
        'an expression names an annotation that mask_dict.json does not have'
    ),
    'target-wrong': (
        'obj_id and anno_id of an expression are not two lists of one length'
    ),
    'rle-broken': 'a run-length code is malformed',
}
"""Training or scoring would stop or be wrong."""

WARNINGS = {
    'sentence-blank': (
        'a sentence has no words; it is not trained on, and scored as it is'
    ),
    'expression-garbled': (
        'an expression looks garbled, as by a wrong encoding'
    ),
    'expression-long': (
        'an expression has more than 100 words; two columns of a table may '
        'have run together'
    ),
    'frame-turned': (
        'a picture carries a note (EXIF) to turn or mirror it, which is not '
        'followed; masks must fit the pixels as they are stored'
    ),
    'frame-unlisted': 'a frame is there but not listed, so it is not used',
    'frames-unsorted': 'the list of frames is not sorted; the loader sorts it',
    'mask-empty': 'the mask of what an expression means is empty',
    'object-never-seen': (
        'an expression means an object that no mask of the video shows'
    ),
    'mask-unlisted': 'a mask is there whose frame is not listed',
    'mask-id-unknown': 'masks show an object that meta.json does not know',
    'meta-object-unseen': (
        'meta.json knows an object that no mask of the video shows'
    ),
    'category-unknown': (
        'a category is none of the known ones, which training with '
        'categories refuses'
    ),
    'polygon-outside': 'a polygon reaches out of its image',
    'annotation-shared': 'two videos name the same annotation',
    'annotation-never-seen': 'an annotation is null in all frames',
}
"""Look at it."""

NOTES = {
    'split-absent': 'a split is not there, so it was not looked at',
    'count-differs': 'not as many as in the full set',
    'truth-absent': (
        'no ground truth: predictions can be written but not scored here'
    ),
    'video-unlisted': 'a video is there, but nothing is said about it',
    'expression-ambiguous': (
        'one expression means different objects of a video'
    ),
    'frame-copied': (
        'a frame is the same as the one before; normal where nothing moves'
    ),
    'sets-overlap': (
        'an image to be tested in one set is trained on in another; a known '
        'caveat of mixing the sets'
    ),
    'truth-file-absent': (
        'no ground-truth file for scoring prediction files; the converter '
        'writes it'
    ),
    'video-too-short': 'a video of less than two frames is not trained on',
}
"""Worth knowing, and normal for a part of a data set."""

LEVELS = ('error', 'warning', 'note')
PROBLEMS: dict[str, tuple[str, str]] = {
    code: (level, message)
    for level, table in zip(LEVELS, (ERRORS, WARNINGS, NOTES), strict=True)
    for code, message in table.items()
}
"""Code -> level and message."""

ENTAILED = {
    'file-missing': ('object-id-missing',),
    'json-broken': ('object-id-missing',),
    'table-wrong': ('object-id-missing',),
    'folder-misplaced': ('folder-missing', 'video-missing'),
    'test-list-missing': ('video-missing', 'folder-missing', 'count-wrong'),
}
"""What a fault makes wrong in the same dataset, and is not reported again."""
