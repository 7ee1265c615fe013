# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Attributes of an expression, by which its scores can be grouped.

An attribute is a name and a value, both text: ``{'type': 'reasoning'}``. In
a data set of your own, write them into the expressions file::

    {"exp": "the cat", "obj_id": "1", "attributes": {"type": "static"}}

The public sets have fields of their own instead; :data:`FIELDS` lists them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from referformer.formats.text_files import show


class AttributeField(NamedTuple):
    """A field of an expressions file that holds an attribute.

    Attributes:
        field: Name of the field.
        name: Name of the attribute.
        values: What the file says -> value of the attribute.
    """

    field: str
    name: str
    values: Mapping[int | str, str]


#: Set -> its field, as the code reads it that its authors score it with:
#: ReVOS ``tools/eval_revos.py`` of github.com/cilinyan/VISA, Long-RVOS
#: ``eval/eval_long_rvos`` of github.com/iSEE-Laboratory/Long_RVOS, Ref-SAV
#: ``tools/eval/eval_ref_sav.py`` of github.com/bytedance/Sa2VA.
FIELDS = {
    'revos': AttributeField(
        'type_id', 'type', {0: 'referring', 1: 'reasoning', 2: 'no-target'}
    ),
    'long-rvos': AttributeField(
        'type',
        'type',
        {
            'static': 'static',
            'dynamic': 'dynamic',
            'static+dynamic': 'hybrid',
        },
    ),
    'ref-sav': AttributeField('type_id', 'type', {0: 'long', 1: 'short'}),
}


def read_attributes(
    expression: Mapping[str, Any], field: AttributeField | None = None
) -> dict[str, str]:
    """Return the attributes of an expression.

    Args:
        expression: The expression as the file has it.
        field: A field that holds a further attribute.

    Returns:
        Name -> value, possibly empty.

    Raises:
        ValueError: If the file says something else than expected; the text
            says what, without a full stop.
    """
    attributes = expression.get('attributes', {})
    if not isinstance(attributes, dict) or not all(
        isinstance(value, str) and value for value in attributes.values()
    ):
        raise ValueError(
            f'has attributes {show(attributes)}; expected a table of texts '
            'as {"type": "static"}'
        )
    if field is None:
        return dict(attributes)
    value = expression.get(field.field)
    known = type(value) in (int, str) and value in field.values
    if not known:
        raise ValueError(
            f'has {field.field} {show(value)}; expected one of '
            f'{", ".join(map(repr, field.values))}'
        )
    return {**attributes, field.name: field.values[value]}
