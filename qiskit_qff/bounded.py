"""Reading JSON, YAML and arrays from files that may be damaged or hostile; every layer may use this.

Nothing in a file is executed, and files beyond a size are refused. Every reader raises ``ValueError`` with the reason
whatever the file holds; the caller, who knows what the file is for, says what to do about it. What the operating system
refuses stays an ``OSError``.
"""

import json
import math
import tokenize
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

MEGABYTE = 1024 * 1024
DIGITS = 40
"""Of whole numbers in JSON: as many as states of random generators have."""
_NO_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, LookupError, ArithmeticError,
    TypeError, AttributeError, MemoryError, tokenize.TokenError,
)  # fmt: skip
"""What ``zipfile`` and ``np.load`` raise for damaged archives, besides ``ValueError``; MemoryError where a header
claims more than there can be."""


def read_json(path: Path, *, max_bytes: int = 256 * MEGABYTE) -> Any:
    """The content of a JSON file; NaN, infinity and endless numbers are refused."""
    return parse_json(_content(path, max_bytes))


def parse_json(content: bytes | str) -> Any:
    """The same for content that was read already."""
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        return json.loads(text, parse_constant=_not_finite, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise ValueError("lists are nested too deeply") from None


def read_yaml(path: Path, *, max_bytes: int = MEGABYTE) -> Any:
    """The content of a YAML file of plain data."""
    import yaml

    class UniqueKeys(yaml.SafeLoader):
        """PyYAML takes the last of equal keys without a word."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
            lines: dict[tuple[str, str], int] = {}
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    name, line = (key.tag, key.value), key.start_mark.line + 1
                    if name in lines:
                        raise ValueError(f"the key '{key.value}' is given twice, in lines {lines[name]} and {line}")
                    lines[name] = line
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(_content(path, max_bytes).decode("utf-8"), Loader=UniqueKeys)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except (RecursionError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def read_arrays(path: Path, *, max_bytes: int = 1024 * MEGABYTE) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` file."""
    content = _content(path, max_bytes)
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > max_bytes:
                raise ValueError(f"unpacks to more than {max_bytes} bytes")
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except _NO_ARCHIVE as error:
        raise ValueError(f"no whole archive of arrays ({type(error).__name__}: {error})") from error


def _content(path: Path, max_bytes: int) -> bytes:
    """All of a file that is not too large."""
    with path.open("rb") as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"larger than {max_bytes} bytes")
    return content


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a finite number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _not_finite(text)
    return number


def _whole(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)
