"""Reading files that may be damaged, or made by somebody who means harm; every layer may use this.

Nothing in a file is executed, and nothing is allocated because a file says so: sizes are compared with what is there
first. Every reader raises ``ValueError`` with the reason, and nothing else, whatever the file holds; who knows what the
file is for says what to do about it. What the operating system refuses stays an ``OSError``.
"""

import json
import math
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

MEGABYTE = 1024 * 1024
DIGITS = 40
"""Of whole numbers in JSON: as many as states of random generators have."""


def read_json(path: Path, *, max_bytes: int = 256 * MEGABYTE) -> Any:
    """The content of a JSON file; NaN, infinity and endless numbers are refused.

    Args:
        path: The file.
        max_bytes: Largest size.

    Raises:
        OSError: If it can't be read.
        ValueError: If it is too large, or no such JSON.
    """
    return parse_json(_content(path, max_bytes))


def parse_json(content: bytes | str) -> Any:
    """The same for content that was read already.

    Args:
        content: UTF-8, or text.

    Raises:
        ValueError: If it is no JSON of finite numbers.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        return json.loads(text, parse_constant=_not_finite, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise ValueError("lists are nested too deeply") from None


def read_yaml(path: Path, *, max_bytes: int = MEGABYTE) -> Any:
    """The content of a YAML file of plain data.

    Args:
        path: The file.
        max_bytes: Largest size.

    Raises:
        OSError: If it can't be read.
        ValueError: If it is too large, no YAML, or gives a key twice.
    """
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
    """The arrays of an ``.npz`` file.

    Args:
        path: The file.
        max_bytes: Largest size, also of what it unpacks to.

    Raises:
        OSError: If it can't be read.
        ValueError: If it is too large, damaged, or holds anything but numbers and text.
    """
    content = _content(path, max_bytes)
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > max_bytes:
                raise ValueError(f"unpacks to more than {max_bytes} bytes")
            return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in archive.infolist()}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"no whole archive ({error})") from error
    except (NotImplementedError, RuntimeError, LookupError, ArithmeticError, TypeError, AttributeError) as error:
        raise ValueError(f"no archive of arrays ({type(error).__name__}: {error})") from error


def _content(path: Path, max_bytes: int) -> bytes:
    """All of a file that is not too large.

    Raises:
        ValueError: If it is.
    """
    with path.open("rb") as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"larger than {max_bytes} bytes")
    return content


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    """One array, made of as many bytes as there are.

    Raises:
        ValueError: If it says it has more, or fewer, or holds objects.
    """
    with archive.open(entry) as stream:
        content = stream.read(entry.file_size + 1)
    file = BytesIO(content)
    shape, in_columns, kind = _header(file)
    if kind.hasobject:
        raise ValueError(f"array '{entry.filename}' holds objects")
    data = content[file.tell() :]
    if min(shape, default=1) < 0 or math.prod(shape) * kind.itemsize != len(data):
        raise ValueError(f"array '{entry.filename}' is not as long as it says")
    return np.frombuffer(data, dtype=kind).reshape(shape, order="F" if in_columns else "C").copy()


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of an array."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    header: tuple[tuple[int, ...], bool, np.dtype[Any]] = read(file)
    return header


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
