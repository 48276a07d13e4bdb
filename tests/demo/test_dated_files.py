"""The files that are moved into dated folders, and where they belong."""

from datetime import date

from demo.dated_files import DatedFile, archive, dated_files, incoming

LEAP_DAY = date(2028, 2, 29)


def test_a_file_is_named_by_its_day_until_its_folder_is() -> None:
    file = DatedFile(LEAP_DAY, "a.csv", b"")
    assert file.key == "incoming/2028-02-29_a.csv"
    assert file.target == "archive/2028/02/29/a.csv"
    assert file.key.startswith(incoming(LEAP_DAY))
    assert file.target.startswith(archive(LEAP_DAY))


def test_no_file_can_be_taken_for_another() -> None:
    files = dated_files(LEAP_DAY, 1000)
    assert len(files) == len({file.key for file in files}) == len({file.content for file in files}) == 1000
    assert all(len(file.content) > 0 for file in files)


def test_they_are_the_same_each_time() -> None:
    assert dated_files(LEAP_DAY, 10) == dated_files(LEAP_DAY, 20)[:10]
