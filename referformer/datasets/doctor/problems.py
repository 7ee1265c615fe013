# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Everything the data doctor can find: code -> what is wrong, what helps.

Readers and transforms give these codes to the errors that they raise; rules
give the rest.
"""

ERRORS = {
    # files and tables
    'split-missing': 'the split is not there',
    'folder-missing': 'a folder is missing; extract its archive completely',
    'folder-misplaced': 'a folder is not where the loader expects it; move it',
    'file-missing': 'a file does not exist',
    'not-converted': 'this is the download; run the converter on it',
    'json-broken': 'a file is not valid JSON',
    'table-wrong': 'a file does not hold what it should',
    'row-wrong': 'a row of a table is malformed',
    'row-repeated': 'rows have one name, which mixes up their predictions',
    'name-unsafe': 'a name leads out of its folder; do not use this file',
    'count-wrong': 'not as many as the config expects; it will not start',
    'data-wrong': 'a file does not hold what it should',
    'load-failed': 'the code that reads an item fails; correct that code',
    # expressions
    'expression-empty': 'an expression has no words',
    'expression-none': 'a video has no expression',
    'attribute-wrong': (
        'an expression is of no known kind, so its score has no group'
    ),
    'object-id-missing': 'a training expression names no object (obj_id)',
    'object-id-wrong': 'an object id is no number from 1 to 255',
    'object-folder-wrong': 'an object id is no name of a folder of masks',
    'object-missing': (
        'the folder of masks of an object is missing; extract the archive '
        'again'
    ),
    # videos as folders of frames
    'video-missing': 'a listed video is missing; extract the archive again',
    'frame-missing': 'a listed frame is missing; extract the archive again',
    'frame-broken': 'a frame is damaged or no image; extract it again',
    'frame-size-differs': 'a frame has another size than the first one',
    'frame-listed-twice': 'a frame is listed twice',
    'frames-disordered': 'frames are not sorted, so masks may not fit them',
    'frames-none': 'a video lists no frames',
    # masks as images
    'mask-missing': 'masks of a frame are missing; extract the archive again',
    'mask-broken': 'masks cannot be read; extract the archive again',
    'mask-size-differs': 'masks have another size than their frame',
    'mask-transposed': 'height and width of masks are exchanged',
    'mask-not-indexed': (
        'a mask is no indexed PNG; it must hold object ids, not colours'
    ),
    'mask-values-wrong': 'a mask holds other values than 0 and 255',
    'mask-binary': (
        'the masks of a video are 0 / 255 images, but 255 means void; they '
        'must hold object ids'
    ),
    # meta.json
    'meta-missing': 'meta.json is missing; it comes with the training videos',
    'meta-video-missing': 'meta.json lacks a video',
    'object-not-in-meta': 'meta.json lacks the object of an expression',
    # splits
    'split-overlap': 'something to be tested is trained on',
    'test-list-missing': (
        'the expressions of "test" are missing; "valid" lists those videos '
        'too, and they must be taken out'
    ),
    'test-list-foreign': (
        'the files of "valid" and "test" share no video, so nothing is taken '
        'out; they are of different releases'
    ),
    # Ref-DAVIS17
    'annotators-incomplete': (
        'an object has not one expression of each of the four annotators; '
        'convert the set again'
    ),
    'video-misspelt': (
        'a video is spelt as in the text files, not as its folder; convert '
        'the set again'
    ),
    'masks-semisupervised': (
        'masks are of the semi-supervised edition, whose ids differ; use '
        'Annotations_unsupervised'
    ),
    # videos as files
    'video-broken': 'a video cannot be decoded to its end; copy it again',
    'video-short': 'a video ends before an annotated frame; extract it again',
    'split-wrong': 'a video is in another split than videoset.csv says',
    'instance-missing': 'the masks lack the instance of an expression',
    'instance-copy': 'an instance is called "1 (copy)"; convert the set again',
    'truth-differs': (
        'the ground truth for scoring is not about the sentences of the '
        'test split; convert the set again'
    ),
    # JHMDB
    'path-outside': 'a path does not lead into the folders of the set',
    'frames-from-zero': 'frames are numbered from 0; here they begin with 1',
    'masks-short': 'the masks of a video end before a frame that is scored',
    # RefCOCO
    'image-missing': 'an image is missing; extract train2014.zip completely',
    'image-broken': 'an image is damaged; extract train2014.zip again',
    'image-size-differs': 'an image has another size than its file says',
    'image-id-mismatch': (
        'the number in the name of an image is not its original_id; convert '
        'the set again'
    ),
    'sentence-id-repeated': (
        'two sentences have the same id; convert the set again'
    ),
    'annotation-mismatch': (
        'sentences and annotations do not match; convert the set again'
    ),
    'segmentation-broken': 'a segmentation is empty or malformed',
    'box-wrong': 'a box is not four numbers x, y, width, height with an area',
    'set-mixed': (
        'the file is of another set or way of splitting (unc, umd, google)'
    ),
    # MeViS
    'masks-of-frames-differ': (
        'an annotation has not one mask (or null) for each frame; the files '
        'are of different releases'
    ),
    'annotation-unknown': 'mask_dict.json lacks an annotation',
    'target-wrong': 'obj_id and anno_id are not two lists of one length',
    'rle-broken': 'a run-length code is malformed',
    # Ref-SAV
    'masklets-missing': 'the masks of a video are missing; extract them again',
    'masklet-unknown': 'the masks of a video lack an object',
}
"""Training or scoring would stop or be wrong."""

WARNINGS = {
    'sentence-blank': 'a sentence without words is scored, but not trained on',
    'expression-garbled': 'an expression looks garbled (a wrong encoding?)',
    'expression-long': 'an expression has more than 100 words',
    'frame-turned': (
        'a picture has a note (EXIF) to turn or mirror it, which is ignored; '
        'masks must fit the pixels as they are stored'
    ),
    'frame-unlisted': 'a frame is there but not listed, so it is not used',
    'frames-unsorted': 'the list of frames is not sorted; the loader sorts it',
    'mask-empty': 'the mask of what an expression means is empty',
    'object-never-seen': 'no mask of a video shows the object meant',
    'mask-unlisted': 'a mask is there whose frame is not listed',
    'mask-id-unknown': 'masks show an object that meta.json does not know',
    'meta-object-unseen': 'no mask of a video shows an object of meta.json',
    'category-unknown': 'training with categories refuses a category',
    'polygon-outside': 'a polygon reaches out of its image',
    'frames-unpublished': (
        'scores of the frames in this file are not comparable with published '
        'ones'
    ),
    'annotation-shared': 'two videos name the same annotation',
    'annotation-never-seen': 'an annotation is null in all frames',
}
"""Worth a look."""

NOTES = {
    'split-absent': 'a split is not there, so it was not checked',
    'count-differs': 'not as many as in the full set',
    'truth-absent': 'no ground truth: predictions are written but not scored',
    'video-unlisted': 'a video is there, but no expression names it',
    'expression-ambiguous': 'one expression means several objects of a video',
    'frame-copied': 'a frame equals the one before; normal if nothing moves',
    'sets-overlap': (
        'an image to be tested in one set is trained on in another; a known '
        'caveat of mixing the sets'
    ),
    'frames-published': (
        'scores of the frames in this file are comparable with published ones'
    ),
    'truth-file-absent': (
        'no ground-truth file for scoring prediction files; the converter '
        'writes it'
    ),
    'video-too-short': 'a video of less than two frames is not trained on',
}
"""Good to know, and normal for a part of a data set."""

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
    'test-list-missing': ('video-missing', 'count-wrong'),
}
"""What else a fault makes wrong in its dataset, which is not reported."""
