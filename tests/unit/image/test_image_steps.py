"""The steps of the Dockerfile, outside of a container: what they fetch is checked, what they cannot do is one line."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

STEPS = Path(__file__).parents[3] / "container/image"


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    """A copy of the steps, without wheels."""
    folder = tmp_path / "container/image"
    shutil.copytree(STEPS, folder, ignore=shutil.ignore_patterns("*.whl"))
    return folder


@pytest.fixture
def published(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which a web server shows its files."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def run(
    *argv: str | Path, folder: Path, version: tuple[int, int] = (3, 11), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a step under a Python that reports this version, and that caches nothing."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(f"import sys\nsys.version_info = {version!r}\n")
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment = {
        **plain, "PYTHON": sys.executable, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1",
        "SOURCE_DATE_EPOCH": "1577836800", **variables,
    }  # fmt: skip
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)


# -- fetching ----------------------------------------------------------------------------------------------------------


def test_a_file_with_its_checksum_is_fetched(published: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = published
    (folder / "file").write_bytes(b"content")
    done = run(
        sys.executable,
        STEPS / "fetch.py",
        f"{address}/file",
        digest(b"content").upper(),
        tmp_path / "got",
        folder=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "got").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("name", "checksum", "message"),
    [
        ("file", "0" * 64, f"has the checksum {digest(b'content')}, expected is {'0' * 64}"),
        ("file", "", "is given without a SHA-256 checksum (64 hexadecimal digits)"),
        ("file", "abc", "is given without a SHA-256 checksum (64 hexadecimal digits)"),
        ("missing", "0" * 64, "cannot fetch"),
    ],
)
def test_a_download_with_a_wrong_checksum_is_removed(
    published: tuple[Path, str], tmp_path: Path, name: str, checksum: str, message: str
) -> None:
    folder, address = published
    (folder / "file").write_bytes(b"content")
    target = tmp_path / "got" / "it"
    target.parent.mkdir()
    done = run(sys.executable, STEPS / "fetch.py", f"{address}/{name}", checksum, target, folder=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(target.parent.iterdir()) == []


# -- the Ice wheel -----------------------------------------------------------------------------------------------------

WHEEL = "zeroc_ice-3.6.5-cp311-cp311-manylinux_2_28_x86_64.whl"


def test_a_wheel_of_the_build_context_comes_first(steps: Path, tmp_path: Path) -> None:
    (steps / "wheels" / WHEEL).write_bytes(b"a wheel")
    done = run(
        "sh", steps / "ice-wheel.sh", tmp_path / "ice", folder=tmp_path, ICE_WHEEL_URL="http://127.0.0.1:1/x.whl"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ice" / WHEEL).read_bytes() == b"a wheel"


def test_the_published_wheel_is_accepted_with_its_checksum(
    steps: Path, published: tuple[Path, str], tmp_path: Path
) -> None:
    folder, address = published
    (folder / WHEEL).write_bytes(b"the published wheel")
    given = {"ICE_WHEEL_URL": f"{address}/{WHEEL}", "ICE_WHEEL_SHA256": digest(b"the published wheel")}
    done = run("sh", steps / "ice-wheel.sh", tmp_path / "ice", folder=tmp_path, **given)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ice" / WHEEL).read_bytes() == b"the published wheel"


def test_the_published_wheel_is_refused_without_a_checksum(
    steps: Path, published: tuple[Path, str], tmp_path: Path
) -> None:
    folder, address = published
    (folder / WHEEL).write_bytes(b"a wheel")
    done = run("sh", steps / "ice-wheel.sh", tmp_path / "ice", folder=tmp_path, ICE_WHEEL_URL=f"{address}/{WHEEL}")
    assert done.returncode == 1
    assert "is given without a SHA-256 checksum" in done.stderr
    assert list((tmp_path / "ice").iterdir()) == []


def test_another_python_than_3_11_is_refused(steps: Path, tmp_path: Path) -> None:
    done = run("sh", steps / "ice-wheel.sh", tmp_path / "ice", folder=tmp_path, version=(3, 12))
    assert done.returncode == 1
    assert "is not Python 3.11; name another with --build-arg PYTHON=PATH" in done.stderr


# -- bioformats2raw ----------------------------------------------------------------------------------------------------


@pytest.fixture
def java(tmp_path: Path) -> str:
    """A path on which there is a program `java`."""
    program = tmp_path / "java-bin/java"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def test_no_bioformats2raw_unless_a_version_is_given(steps: Path, tmp_path: Path) -> None:
    done = run("sh", steps / "bioformats2raw.sh", tmp_path / "target", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "target").iterdir()) == []


def test_bioformats2raw_needs_a_checksum(steps: Path, java: str, tmp_path: Path) -> None:
    given = {"BIOFORMATS2RAW_VERSION": "1.0", "PATH": java}
    done = run("sh", steps / "bioformats2raw.sh", tmp_path / "target", folder=tmp_path, **given)
    assert done.returncode == 1
    assert "bioformats2raw-1.0.zip is given without a SHA-256 checksum" in done.stderr


def test_bioformats2raw_needs_java(steps: Path, published: tuple[Path, str], tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "mkdir"):
        (tools / name).symlink_to(shutil.which(name) or name)
    given = {"BIOFORMATS2RAW_VERSION": "1.0", "PATH": str(tools)}
    done = run(tools / "sh", steps / "bioformats2raw.sh", tmp_path / "target", folder=tmp_path, **given)
    assert done.returncode == 1
    assert "bioformats2raw needs Java, which the base image does not have" in done.stderr


# -- packages of the base ----------------------------------------------------------------------------------------------

STUB = '#!/bin/sh\necho "${0##*/} $*"\n'


@pytest.fixture
def rocky(tmp_path: Path) -> str:
    """A path with `dnf`, without `apt-get`; its programs only print how they were called."""
    folder = tmp_path / "rocky"
    folder.mkdir()
    for name in ("dnf", "rm"):
        (folder / name).write_text(STUB.replace("/bin/sh", shutil.which("sh") or ""))
        (folder / name).chmod(0o755)
    return str(folder)


def packages(path: str, folder: Path, bundle: str = "") -> list[str]:
    script = f'. "{STEPS}/common.sh"; CA_BUNDLE="{bundle}"; install_packages --apt "one" --dnf "two three"'
    done = run(shutil.which("sh") or "sh", "-c", script, folder=folder, PATH=path)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_dnf_installs_without_weak_dependencies_and_leaves_no_cache(rocky: str, tmp_path: Path) -> None:
    install, clean, remove = packages(rocky, tmp_path)
    assert install == "dnf -y -q --setopt=install_weak_deps=False --setopt=tsflags=nodocs install two three"
    assert clean == "dnf clean all -q"
    assert "/var/cache/dnf" in remove


def test_dnf_trusts_the_certificates_of_the_build(rocky: str, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("certificates")
    assert packages(rocky, tmp_path, str(bundle))[0].startswith(f"dnf --setopt=sslcacert={bundle} -y ")


def test_a_base_with_neither_package_manager_is_refused(tmp_path: Path) -> None:
    script = f'. "{STEPS}/common.sh"; install_packages --apt one --dnf two'
    (tmp_path / "empty").mkdir()
    done = run(shutil.which("sh") or "sh", "-c", script, folder=tmp_path, PATH=str(tmp_path / "empty"))
    assert done.returncode == 1
    assert done.stderr == "image: error: the base image has neither apt-get nor dnf\n"


# -- finishing ---------------------------------------------------------------------------------------------------------


def make_environment(layer: Path, time: int) -> Path:
    folder = layer / "opt/it"
    package = folder / "lib/python3.11/site-packages/package"
    (package / "tests").mkdir(parents=True)
    (package / "tests/test_it.py").write_text("assert True\n")
    (package / "__init__.py").write_text("ANSWER = 42\n")
    (package / "tests.py").write_text("# a module, no test suite\n")
    (folder / "lib64").symlink_to("lib")
    (folder / "dangling").symlink_to("/nowhere/at/all")
    for path in layer.rglob("*"):
        os.utime(path, (time, time), follow_symlinks=False)
    return layer


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a folder: its time and, of files, the bytes."""
    return {
        str(path.relative_to(folder)): (
            int(path.lstat().st_mtime),
            path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
        )
        for path in folder.rglob("*")
    }


def test_environments_built_at_different_times_are_identical(tmp_path: Path) -> None:
    made = [make_environment(tmp_path / name, time) for name, time in (("one", 1_000_000_000), ("two", 1_100_000_000))]
    for folder in made:
        done = run(sys.executable, STEPS / "finish.py", "--environment", "/opt/it", folder, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    first, second = map(content, made)
    assert first == second
    assert {time for time, _ in first.values()} == {1577836800}


def test_an_environment_is_compiled_and_has_no_test_suites(tmp_path: Path) -> None:
    layer = make_environment(tmp_path / "one", 1_000_000_000)
    run(sys.executable, STEPS / "finish.py", "--environment", "/opt/it", layer, folder=tmp_path)
    package = layer / "opt/it/lib/python3.11/site-packages/package"
    assert sorted(path.name for path in package.iterdir()) == ["__init__.py", "__pycache__", "tests.py"]
    compiled = next((package / "__pycache__").glob("__init__*.pyc")).read_bytes()
    assert b"/opt/it/lib/python3.11/site-packages/package/__init__.py" in compiled
    assert str(tmp_path).encode() not in compiled
