"""Files from the web: from mirrors, with checksum and progress bar, resumed where a connection breaks off."""

import shutil
import tempfile
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import requests

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # in a notebook without ipywidgets, the progress bar that it imports complains
    import pooch

_PARTIAL = ".partial"
_DROPPED = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
PAUSES = (0, 1, 4)  # seconds before going on after a drop, by how many in a row have brought nothing new


@dataclass(frozen=True)
class Archive:
    """A file on the web: the URLs that serve it, in the order tried; its checksum; the files it gives.

    The checksum is "md5:…" or "sha256:…". What a .tar.gz gives are its members; another file gives itself.
    The files given are paths relative to a root that is known later, all in one folder.
    """

    urls: tuple[str, ...]
    checksum: str
    gives: tuple[str, ...]


def fetch(archive: Archive, root: Path, wanted: Iterable[str]) -> None:
    """Download an archive and put those of its files that are wanted under root, each in one step.

    One process at a time may do so. What a stopped download has brought stays in a folder ``.download`` beside the
    files, and the next one goes on from there.

    Raises OSError, before any download, if they cannot be written, and ConnectionError if no URL serves the
    right content.
    """
    folder = (root / archive.gives[0]).parent
    workplace = folder / ".download"
    made = [workplace, *(place for place in workplace.parents if not place.exists())]
    try:
        workplace.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        file = _from_first_good(archive, workplace)
        if file.endswith(".tar.gz"):
            pooch.Untar(extract_dir=".")(file, "download", None)
        for path in wanted:
            next(workplace.rglob(Path(path).name)).replace(root / path)
        shutil.rmtree(workplace)
    except ConnectionError:
        for place in made:  # which a folder named by mistake does not keep
            if not any(place.iterdir()):
                place.rmdir()
        raise
    except OSError as error:
        raise OSError(f"{root} lacks {', '.join(wanted)} and cannot be written to ({error})") from error


def _from_first_good(archive: Archive, folder: Path) -> str:
    """Download an archive into a folder from the first of its URLs that serves the right content."""
    name = archive.urls[0].rpartition("/")[2]
    again = archive.urls[:1] if (folder / f"{name}{_PARTIAL}").exists() else ()  # if what was there is no beginning
    tried = []
    for url in (*again, *archive.urls):
        try:
            return pooch.retrieve(url, archive.checksum, name, folder, downloader=_resuming)
        except requests.RequestException as error:
            status = "" if error.response is None else f" {error.response.status_code}"
            tried.append(f"{url} ({type(error).__name__}{status})")
        except ValueError:
            tried.append(f"{url} (wrong checksum)")
    raise ConnectionError(f"{name} cannot be downloaded; tried {', '.join(dict.fromkeys(tried))}")


def _resuming(url: str, output_file: str, _: object) -> None:
    """Download as pooch does, but go on where a dropped connection, or a stopped download, broke off."""
    partial = Path(output_file).with_name(url.rpartition("/")[2] + _PARTIAL)
    resumable = True
    with partial.open("ab") as file:

        def restart(response: requests.Response, **_: object) -> None:
            nonlocal resumable
            if response.status_code == 200:  # not 206: the server ignores Range and sends everything again
                resumable = False
                file.seek(0)
                file.truncate()

        furthest, barren = file.tell(), 0
        while True:
            # "identity": content that is itself gzip must not be unpacked on its way
            headers = {"Range": f"bytes={file.tell()}-", "Accept-Encoding": "identity"}
            get = pooch.HTTPDownloader(True, chunk_size=2**16, headers=headers, hooks={"response": restart})
            try:
                get(url, file, None)
                break
            except requests.HTTPError as error:
                if file.tell() and error.response.status_code == 416:  # there is no more than what is here
                    break
                if not file.tell():
                    partial.unlink()
                raise
            except _DROPPED:
                barren = 0 if file.tell() > furthest else barren + 1
                furthest = max(furthest, file.tell())
                if barren == len(PAUSES):
                    if not (resumable and file.tell()):
                        partial.unlink()
                    raise
                time.sleep(PAUSES[barren])
    partial.replace(output_file)
