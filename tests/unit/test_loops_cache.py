"""Compiled loops come from a folder of this user alone; a failure is said once, and not tried at each start."""

import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from segue.errors import DatasetError
from segue.files import cache_folder
from segue.kernels import build
from segue.kernels.build import SERVING, compiled, opened
from segue.kernels.private_folder import private_folder

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler: the pure code is used")


@pytest.fixture(name="cache", autouse=True)
def a_cache_folder_of_the_test(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGUE_CACHE", str(tmp_path / "cache"))
    build._warn.cache_clear()
    yield tmp_path / "cache" / "kernels"
    build._warn.cache_clear()


@pytest.fixture(name="counted")
def a_compiler_that_counts_its_calls(tmp_path):
    """A compiler, and a function that says how often it was asked to compile."""
    asked = tmp_path / "asked"
    program = tmp_path / "cc"
    program.write_text(f'#!/bin/sh\ncase "$*" in *--version*) ;; *) echo "$*" >> {asked};; esac\nexec cc "$@"\n')
    program.chmod(0o755)
    return str(program), lambda: len(asked.read_text().splitlines()) if asked.exists() else 0


def messages(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "segue"]


def test_a_library_is_compiled_once_into_a_folder_of_mode_0700(cache, counted, caplog):
    compiler, times = counted
    path = compiled(SERVING, compiler=compiler)
    assert path == compiled(SERVING, compiler=compiler)
    assert times() == 1
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert opened(SERVING, compiler=compiler).segue_best
    assert messages(caplog) == []


def spoiled_by_mode(path):
    path.chmod(0o777 if path.is_dir() else 0o666)


def spoiled_by_group(path):
    path.chmod(0o770 if path.is_dir() else 0o620)


def spoiled_by_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def spoiled_by_owner(path):
    if os.geteuid() != 0:
        pytest.skip("only root gives a file away")
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize("spoil", [spoiled_by_mode, spoiled_by_group, spoiled_by_link, spoiled_by_owner])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_others_could_have_put_there_is_not_loaded(cache, caplog, spoil, what):
    path = compiled(SERVING)
    spoil(cache if what == "folder" else path)
    assert opened(SERVING) is None
    assert opened(SERVING) is None
    [said] = messages(caplog)
    assert f"{cache if what == 'folder' else path}: expected a {what} of this user alone" in said
    assert "The slower pure code is used" in said


@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_a_folder_above_that_everybody_can_write_to_is_no_place_for_code(cache, caplog, mode):
    compiled(SERVING)
    cache.parent.chmod(mode)
    assert opened(SERVING) is None
    assert "expected a folder that not everybody can write to" in messages(caplog)[0]
    cache.parent.chmod(mode | stat.S_ISVTX)  # as /tmp is: only owners rename
    assert opened(SERVING) is not None


def test_the_key_names_compiler_arguments_headers_and_what_a_library_is_made_for(tmp_path, monkeypatch):
    headers = tmp_path / "include" / "xla"
    headers.mkdir(parents=True)
    (headers / "c_api.h").write_text("// 1")
    other = tmp_path / "cc"
    other.symlink_to(shutil.which("cc"))

    def keys():
        yield build._key(SERVING, None, build._command("cc"), ())
        yield build._key(SERVING, None, build._command("cc -m64"), ())
        yield build._key(SERVING, None, build._command("cc"), ("0.10",))
        yield build._key(SERVING, None, build._command(str(other)), ())
        yield build._key(SERVING, str(headers.parent), build._command("cc"), ())
        (headers / "c_api.h").write_text("// 2")
        yield build._key(SERVING, str(headers.parent), build._command("cc"), ())

    found = list(keys())
    assert len(set(found)) == len(found)
    monkeypatch.setenv("CC", "cc -m64 -DNOTHING='a b'")
    assert build._command(os.environ["CC"])[1:] == ["-m64", "-DNOTHING=a b"]
    assert compiled(SERVING) is not None
    monkeypatch.setenv("CC", "env LC_ALL=C cc")  # as ccache is written before a compiler
    assert opened(SERVING) is not None
    monkeypatch.setenv("CC", "")
    assert compiled(SERVING) is not None


@pytest.mark.parametrize(
    ("compiler", "why"), [("no-such-cc", "there is no C compiler"), ("false", "false ended with 1")]
)
def test_a_failure_is_said_once_and_tried_again_after_a_day(cache, caplog, compiler, why):
    assert compiled(SERVING, compiler=compiler) is None
    [kept] = cache.iterdir()
    assert kept.suffix == ".failed"
    assert why in kept.read_text()
    build._warn.cache_clear()  # as in another process
    assert opened(SERVING, compiler=compiler) is None
    [said] = messages(caplog)
    assert why in said
    assert "SEGUE_KERNELS=0" in said
    os.utime(kept, (0, kept.stat().st_mtime - build.RETRY - 1))
    assert compiled(SERVING, compiler=compiler) is None
    assert len(messages(caplog)) == 2


def test_a_failure_is_not_tried_at_each_start_but_when_the_compiler_changes(cache, tmp_path):
    program, asked = tmp_path / "cc", tmp_path / "asked"
    program.write_text(f'#!/bin/sh\necho "$*" >> {asked}\nexit 1\n')
    program.chmod(0o755)
    for _ in range(3):
        assert compiled(SERVING, compiler=str(program)) is None
    assert sum("--version" not in line for line in asked.read_text().splitlines()) == 1
    program.write_text('#!/bin/sh\nexec cc "$@"\n')
    assert compiled(SERVING, compiler=str(program)) is not None


def test_a_library_that_cannot_be_opened_is_made_anew_once(cache, counted, caplog):
    compiler, times = counted
    path = compiled(SERVING, compiler=compiler)
    path.write_bytes(b"no library")
    assert opened(SERVING, compiler=compiler) is not None
    assert times() == 2
    assert messages(caplog) == []


def test_a_compiler_that_makes_no_library_is_said(tmp_path, caplog):
    program = tmp_path / "cc"
    program.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do [ "$#" = 0 ] && exit 0; shift; done\necho nothing > "$2"\n')
    program.chmod(0o755)
    assert opened(SERVING, compiler=str(program)) is None
    assert "the library cannot be opened" in messages(caplog)[0]


def test_two_starts_at_one_time_make_one_library(cache, counted):
    compiler, _ = counted
    found = []
    threads = [threading.Thread(target=lambda: found.append(compiled(SERVING, compiler=compiler))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert [path.name for path in cache.iterdir()] == [found[0].name]


@pytest.mark.parametrize("how", ["no home", "a file in the way", "a read-only folder"])
def test_without_a_place_the_pure_code_is_used_and_that_is_said(tmp_path, monkeypatch, caplog, how):
    monkeypatch.delenv("SEGUE_CACHE")
    if how == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
        with pytest.raises(DatasetError, match="expected SEGUE_CACHE, XDG_CACHE_HOME or a home folder"):
            cache_folder()
    elif how == "a file in the way":
        (tmp_path / "home").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/self")
    assert opened(SERVING) is None
    assert opened(SERVING) is None
    assert len(messages(caplog)) == 1


def test_a_relative_cache_home_is_not_taken(monkeypatch):
    assert cache_folder({"XDG_CACHE_HOME": "here"}) == Path.home() / ".cache" / "segue"


def test_programs_of_jax_are_kept_in_a_folder_of_this_user_alone(tmp_path, caplog):
    """They are code, too: a folder that others can write to is left alone, and that is said."""
    code = (
        "import logging, jax; logging.basicConfig()\n"
        "from segue.training.jit_cache import keep_compiled\n"
        "keep_compiled(); print(jax.config.jax_compilation_cache_dir)\n"
    )
    folder = tmp_path / "cache" / "compiled"

    def asked():
        given = os.environ | {"SEGUE_CACHE": str(folder.parent), "JAX_COMPILATION_CACHE_DIR": ""}
        del given["JAX_COMPILATION_CACHE_DIR"]
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=given)

    assert asked().stdout.strip() == str(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    done = asked()
    assert done.stdout.strip() == "None"
    assert "Compiled programs are not kept" in done.stderr


def test_no_check_that_guards_memory_is_an_assert():
    """`python -O` leaves asserts out."""
    for name in ("serving_loops.py", "build.py", "private_folder.py", "training_loops.py"):
        assert "assert " not in (build.FOLDER / name).read_text()


def test_a_private_folder_is_made_with_those_above(tmp_path):
    assert private_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_where_there_is_a_compiler_both_sources_are_compiled():
    """What skips without the loops would else be silent where a source does not compile."""
    assert build.training() is not None
    assert build.serving() is not None
