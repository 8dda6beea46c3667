"""Fetches CLUE from the Hugging Face hub and converts it back to the official format.

The official Google Storage links answer 403 since 2023. The hub's dataset `clue/clue` holds the
same rows as parquet; `hub_formats.py` turns them back, `data.LACKING` says what is gone.

One commit of the dataset is asked for, `COMMIT`; its hash covers the SHA-256 of every file, which
the hub states and each download is checked against. Checksums of downloads and of the converted
files go into `clue.lock.json` beside the data, and later runs check the files against it.

`HF_ENDPOINT` names another hub (a mirror), `HF_HUB_OFFLINE=1` forbids the attempt.
"""

import json
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from clue_baselines.data import DataError, sha256
from clue_baselines.data.hub_formats import FORMATS

DATASET = "clue/clue"
COMMIT = "28178267a609dd08bdc703dd6c931dfc2c2f4431"  # all tasks as parquet, 2024-01-17
TIMEOUT = 5  # seconds; being offline must not hold anybody up


class Unavailable(Exception):
    """The hub cannot be used; the message says why in one line."""


def cache_folder() -> Path:
    """Where fetched data stays: `$XDG_CACHE_HOME/clue_baselines`, else under `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "clue_baselines"


def fetch(task: str) -> Path:
    """The task's folder in official format, downloaded now or earlier.

    Raises:
        Unavailable: there is no earlier download and the hub cannot be reached or used.
        DataError: files differ from the checksums in the lock file.
    """
    root = cache_folder()
    lock_path = root / "clue.lock.json"
    lock = json.loads(lock_path.read_text()) if lock_path.is_file() else {"files": {}}
    kind = FORMATS.get(task)
    if kind is None:
        raise Unavailable(f"it has no usable copy of {task}")
    names = [f"{task}/{name}.json" for name in kind.files]
    if all((root / name).is_file() and name in lock["files"] for name in names):
        for name in names:
            advice = "delete the file and run again"
            verify(root / name, lock["files"][name], root / name, lock_path, advice)
        return root / task
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise Unavailable("HF_HUB_OFFLINE forbids it")

    listed = list_files()
    (root / task).mkdir(parents=True, exist_ok=True)
    for hub_split, split in kind.splits:
        parts = re.compile(rf"{kind.folder}/{hub_split}-\d+-of-\d+\.parquet")
        remotes = sorted(name for name in listed if parts.fullmatch(name))
        if not remotes:
            raise Unavailable(f"{DATASET} holds no {kind.folder}/{hub_split}-….parquet")
        rows = []
        for remote in remotes:
            rows += rows_of(remote, listed, lock, lock_path)
            lock["files"][remote] = listed[remote]
        try:
            contents = kind.convert(rows, split)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise unknown_form(remotes[0], error) from None
        for name, text in contents.items():
            replace_text(root / task / f"{name}.json", text)
            lock["files"][f"{task}/{name}.json"] = sha256(root / task / f"{name}.json")
    lock |= {"dataset": DATASET, "commit": COMMIT}
    replace_text(lock_path, json.dumps(lock, indent=2, sort_keys=True) + "\n")
    print(f"Fetched {task} from {DATASET} at commit {COMMIT} into {root / task}")
    return root / task


def rows_of(remote: str, listed: dict, lock: dict, lock_path: Path) -> list[dict]:
    """The rows of one of the hub's parquet files, which is checked and not kept."""
    try:
        from pyarrow.parquet import read_table
    except ImportError:
        raise Unavailable("converting it needs pyarrow (pip install pyarrow)") from None
    parquet = cache_folder() / (remote.replace("/", "-") + ".part")
    where = address_of(remote)
    try:
        download(where, parquet)
        advice = "run again, or name another hub by HF_ENDPOINT"
        verify(parquet, listed[remote], where, "the hub's own listing", advice)
        advice = f"delete {lock_path} and run again, and everything is fetched anew"
        verify(parquet, lock["files"].get(remote), where, lock_path, advice)
        return read_table(parquet).to_pylist()
    except (OSError, ValueError) as error:
        raise unknown_form(remote, error) from None
    finally:
        parquet.unlink(missing_ok=True)


def unknown_form(remote: str, error: Exception) -> Unavailable:
    """The error for a file that is not what `hub_formats.py` expects."""
    return Unavailable(f"its file {remote} has an unknown form ({reason(error)})")


def verify(path: Path, expected: str | None, said: str | Path, listed_in: str | Path, advice: str):
    """Compares a file's SHA-256 with the expected one, if one is known.

    said: what the file is called in the error, with `advice` what to do about it.
    """
    if expected is not None and sha256(path) != expected:
        raise DataError(f"{said} does not have the SHA-256 that {listed_in} states; {advice}.")


def endpoint() -> str:
    """Address of the hub."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def address_of(remote: str) -> str:
    """Address of one of the dataset's files."""
    return f"{endpoint()}/datasets/{DATASET}/resolve/{COMMIT}/{remote}"


def list_files() -> dict[str, str]:
    """The SHA-256 of each large file of the commit."""
    address = f"{endpoint()}/api/datasets/{DATASET}/revision/{COMMIT}?blobs=true"
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
            info = json.load(answer)
        if info["sha"] != COMMIT:
            raise ValueError(f"it lists commit {info['sha']}, not {COMMIT}")
        return {f["rfilename"]: f["lfs"]["sha256"] for f in info["siblings"] if f.get("lfs")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"{endpoint()} does not answer as expected ({reason(error)})") from None


def download(address: str, target: Path):
    """Streams one file of the dataset to disk with a progress bar."""
    from tqdm import tqdm

    try:
        with urllib.request.urlopen(address, timeout=30) as answer, target.open("wb") as file:
            size = int(answer.headers.get("Content-Length", 0))
            bar = tqdm(total=size or None, unit="B", unit_scale=True, desc=target.stem)
            with bar:
                while chunk := answer.read(1 << 16):
                    bar.update(file.write(chunk))
    except OSError as error:
        raise Unavailable(f"{address} could not be downloaded ({reason(error)})") from None
    if size and target.stat().st_size != size:
        raise Unavailable(f"{address} broke off after {target.stat().st_size} of {size} bytes")


def reason(error: Exception) -> str:
    """An exception in a few words."""
    return f"{type(error).__name__}: {getattr(error, 'reason', error)}"[:150]


def replace_text(path: Path, text: str):
    """Writes a file under a temporary name first, so that it is never seen half written."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
