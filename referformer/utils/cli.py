# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Options and errors of all command-line tools.

An error that the user can mend (:class:`referformer.errors.ReferError`) is
printed as one sentence, anything else as a traceback, for it is a bug. The
whole traceback of either is kept in a file beside the results.
"""

import argparse
import errno
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from referformer.errors import ConfigError, DataError, ReferError
from referformer.utils.processes import (
    follow_parent,
    heed_interruptions,
    kill_workers,
)

__all__ = [
    'add_cfg_options',
    'add_common_options',
    'add_former_name',
    'add_precision',
    'add_traceback',
    'current_set_name',
    'keep_errors_in',
    'parse_converter',
    'parse_overrides',
    'positive',
    'prepare_output',
    'run',
    'sentence_of',
]

LOG_NAME = 'errors.log'
#: Former spelling of a data set on command lines and in configs -> its name.
FORMER_SET_NAMES = {
    'ref-ytvos': 'ref-youtube-vos',
    'ref-davis17': 'ref-davis',
    'a2d-sentences': 'a2d',
    'jhmdb-sentences': 'jhmdb',
}
_log_folder: Path | None = None


def keep_errors_in(folder: str | os.PathLike[str]) -> None:
    """Tell where the results of this process are, hence the log of errors."""
    global _log_folder
    _log_folder = Path(folder)


def prepare_output(file: str | os.PathLike[str], option: str) -> None:
    """Make the folder of a result before the work; keep errors there too.

    Args:
        file (str | PathLike): What will be written.
        option (str): The option that chose it.

    Raises:
        ConfigError: If it cannot be written.
    """
    file = Path(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, 'it is a folder')
    except OSError as error:
        raise ConfigError(
            f'cannot write to {file} ({error.strerror})',
            file=file,
            remedy=f'choose another {option}.',
        ) from error
    keep_errors_in(file.parent)


def run(main: Callable[[], Any], setting_status: int = 1) -> None:
    """Run a tool; an error of the user's becomes one sentence.

    The traceback of every error goes to ``errors.log`` in the folder that
    :func:`keep_errors_in` named, or else to ``~/.cache/referformer``.
    ``--traceback`` on the command line, of any tool, prints it too.

    Args:
        main (Callable): Takes no argument. If it returns a whole number,
            that is the exit status.
        setting_status (int): Exit status after an error that is not in the
            data.

    Raises:
        SystemExit: With the status of ``main`` unless it is 0, with 130
            after an interruption, or with the sentence, hence status 1.
    """
    follow_parent()
    heed_interruptions()
    name = Path(sys.argv[0]).name
    rank = os.environ.get('RANK', '0')
    if rank != '0':
        name += f' (process {rank})'
    log_only = '--traceback' not in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != '--traceback']
    try:
        status = main()
    except KeyboardInterrupt:
        kill_workers()
        print(f'\n{name}: interrupted', file=sys.stderr)
        raise SystemExit(130) from None
    except SystemExit:
        kill_workers()
        _leave_process_group()
        raise
    except Exception as error:
        kill_workers()
        log = _write_log(error)
        sentence = sentence_of(error)
        where = f'traceback: {log}' if log else 'its log cannot be written'
        if sentence is None:
            note = f'{name}: this looks like a bug ({where})'
            sys.excepthook = partial(_report_bug, note)
            raise
        if not log_only:
            print(_traceback_of(error), file=sys.stderr)
        message = _printable(f'{name}: {sentence} ({where})')
        if setting_status == 1 or isinstance(error, DataError):
            raise SystemExit(message) from None
        print(message, file=sys.stderr)
        raise SystemExit(setting_status) from None
    _leave_process_group()
    if isinstance(status, int) and status:
        raise SystemExit(status)


def _printable(text: str) -> str:
    """Write control characters as Python does, but for ends of lines.

    The name of a file may hold some, and a terminal obeys them.
    """
    return ''.join(
        c if c.isprintable() or c in '\n\t' else repr(c)[1:-1] for c in text
    )


def _report_bug(note: str, *raised: Any) -> None:
    """Print a traceback as Python does, and the note below it."""
    sys.__excepthook__(*raised)
    print(note, file=sys.stderr)


def sentence_of(error: BaseException) -> str | None:
    """Say what the user has to mend."""
    if isinstance(error, ReferError):
        return str(error)
    if isinstance(error, OSError):
        if error.filename is not None:
            return f'{error.filename}: {error.strerror}.'
        if error.errno == errno.ENOSPC:
            return 'the disk is full.'
    return None


def _traceback_of(error: BaseException) -> str:
    text = ''.join(traceback.format_exception(error))
    worker = getattr(error, 'worker_traceback', None)
    return f'{worker}\n\n{text}' if worker else text


def _write_log(error: BaseException) -> Path | None:
    """Append a traceback to the log; return its path, None on failure."""
    cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    when = time.strftime('%Y-%m-%d %H:%M:%S')
    text = f'--- {when} {" ".join(sys.argv)}\n{_traceback_of(error)}\n'
    for folder in filter(None, (_log_folder, Path(cache, 'referformer'))):
        # a full disk must not hide the error
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / LOG_NAME).open('a', encoding='utf-8') as file:
                file.write(text)
            return folder / LOG_NAME
    return None


def _leave_process_group() -> None:
    """Stop the threads of a distributed run before the interpreter ends.

    Those of gloo now and then abort a process that is ending.
    """
    distributed = sys.modules.get('torch.distributed')
    if (
        distributed is not None
        and distributed.is_available()
        and distributed.is_initialized()
    ):
        distributed.destroy_process_group()


def positive(text: str) -> int:
    """Argparse type of a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a whole number above 0'
        )
    return int(text)


def current_set_name(name: str) -> str:
    """Return the name of a data set, which may come in a former spelling."""
    return FORMER_SET_NAMES.get(name, name)


def add_former_name(
    parser: argparse.ArgumentParser,
    name: str,
    action: argparse.Action,
    **changes: Any,
) -> None:
    """Accept an option by its former name too; the help does not show it."""
    same = {k: getattr(action, k) for k in ('nargs', 'type', 'choices')}
    parser.add_argument(
        name,
        dest=action.dest,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
        **{**same, **changes},
    )


def add_precision(
    parser: argparse.ArgumentParser,
    help: str = 'auto: bf16 where the hardware is made for it, else fp32 '
    "(default: the config's, or fp32)",
    choices: Sequence[str] = ('auto', 'fp32', 'bf16', 'fp16'),
    default: str | None = None,
) -> None:
    """Add ``--precision``, formerly ``--amp``."""
    precision = parser.add_argument(
        '--precision',
        choices=choices,
        default=default,
        help=f'type of the arithmetic; {help}',
    )
    former = {'off': 'fp32'}
    add_former_name(
        parser,
        '--amp',
        precision,
        nargs='?',
        const='bf16',
        type=lambda text: former.get(text, text),
    )


def add_propagate(parser: Any) -> None:
    """Add ``--propagate`` to a parser or a group of it."""
    parser.add_argument(
        '--propagate',
        nargs='?',
        const='flow',
        metavar='CONFIG',
        help='carry the mask of the best frame through the video: along the '
        'optical flow (without a value, or flow), or as a file such as '
        'configs/propagators/sam2.1-large.py says; none: do not (default: '
        "the config's, or none)",
    )


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``, a dict of dotted keys and values."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_Override,
        default={},
        metavar='KEY=VALUE',
        help='override settings of the config, for example '
        'optim_wrapper.optimizer.lr=2e-5 "model.backbone.out_indices=(1,2,3)"',
    )


class _Override(argparse.Action):
    """Collect settings, see :func:`parse_overrides`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: list[str],
        option_string: str | None = None,
    ) -> None:
        known = getattr(namespace, self.dest)
        found = parse_overrides(parser, values, option_string)
        setattr(namespace, self.dest, {**known, **found})


def add_traceback(parser: argparse.ArgumentParser) -> None:
    """Add ``--traceback`` to the help; :func:`run` reads it."""
    parser.add_argument(
        '--traceback',
        action='store_true',
        help='print the whole traceback of an error',
    )


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every script that makes a runner."""
    parser.add_argument(
        '--work-dir',
        help='folder for logs and checkpoints '
        '(default: work_dirs/<name of the config>)',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='who started the processes of a distributed run',
    )
    parser.add_argument(
        '--tf32',
        action='store_true',
        help='let matrix products and convolutions of a GPU round their '
        'inputs to TF32: faster, about three decimal digits',
    )
    add_traceback(parser)
    # torch.distributed.launch of old passes the one, torchrun the variable.
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help='set by the launcher',
    )


def parse_converter(
    argv: list[str] | None, description: str, **counts: int
) -> argparse.Namespace:
    """Read the options of a converter that adds files to a release.

    Args:
        argv (list[str], optional): The command line; None: the process's.
        description (str): What the converter does.
        **counts (int): How many entries of a kind the release has.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('root', type=Path, metavar='ROOT')
    parser.add_argument(
        '--out', type=Path, help='folder for the files (default: ROOT)'
    )
    for kind, number in counts.items():
        parser.add_argument(
            f'--{kind}',
            type=int,
            default=number,
            help=f'how many {kind} there must be (default: %(default)s)',
        )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace existing files'
    )
    args = parser.parse_args(argv)
    args.out = args.out or args.root
    return args


def parse_overrides(
    parser: argparse.ArgumentParser,
    pairs: list[str],
    option: str,
) -> dict[str, Any]:
    """Turn ``KEY=VALUE`` arguments into settings.

    Values are read by mmengine's own rules, so that lists, tuples, numbers
    and ``None`` mean here what they mean in its other tools. Those rules drop
    spaces and split at commas, so a path may be put in quotes of its own:
    ``"data_root='/my data/'"`` is taken as it is.

    Args:
        parser (argparse.ArgumentParser): Reports a malformed pair.
        pairs (list[str]): The arguments.
        option (str): The option they were given to.

    Returns:
        dict[str, Any]: Dotted key -> value.
    """
    for pair in pairs:
        if '=' not in pair or pair.startswith('='):
            parser.error(f'{option} {pair}: KEY=VALUE is expected')
    if not pairs:
        return {}
    from mmengine.config import DictAction

    helper = argparse.ArgumentParser(add_help=False)
    helper.add_argument('--set', nargs='+', action=DictAction)
    overrides = helper.parse_args(['--set', *pairs]).set
    for pair in pairs:
        key, value = pair.split('=', 1)
        quote = value[:1]
        if quote in ('"', "'") and value.endswith(quote) and len(value) > 1:
            text = value[1:-1]
            # quoted lists are common on other shells
            if not text.startswith(('[', '(')):
                overrides[key] = text
    return overrides
