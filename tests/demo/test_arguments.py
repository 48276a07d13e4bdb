"""Arguments that cannot work are refused at once, in words."""

from pathlib import Path

import pytest

from demo import __main__ as demo


@pytest.fixture(autouse=True)
def _build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "BUILD", tmp_path / "build")


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_:
        demo.main(arguments)
    assert exit_.value.code == 2
    return capsys.readouterr().err


def test_unknown_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ONLY must be one of scheduled, semaphore, pipeline, spool, map, not 'nightly'" in refusal(
        ["--only", "nightly"], capsys
    )


def test_input_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"INPUT is not a folder: {tmp_path / 'gone'}" in refusal(["--input", str(tmp_path / "gone")], capsys)


def test_input_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("text")
    assert "INPUT is not a folder" in refusal(["--input", str(tmp_path / "file")], capsys)


def test_input_without_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    assert "INPUT has no files in it" in refusal(["--input", str(tmp_path / "empty")], capsys)
