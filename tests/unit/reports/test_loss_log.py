from __future__ import annotations

from pathlib import Path

import pytest

from fashion_ml.reports.loss_log import HEADER, LossLog, LossRow, read_loss_log


def test_a_log_explains_itself_and_says_na_three_times(tmp_path: Path):
    log = LossLog(tmp_path / "logs" / "training_loss_log.txt")
    log.write(10, 1, 0.0234561, 5e-5)
    lines = (tmp_path / "logs" / "training_loss_log.txt").read_text(encoding="utf-8").splitlines()  # before close: flushed
    log.close()
    comments = [line for line in lines if line.startswith("#")]
    assert len(comments) >= 2
    assert "do not exist" in " ".join(comments)
    assert (
        lines[len(comments)]
        == HEADER
        == "step,epoch,total_loss,visual_loss,fashion_clip_loss,color_loss,learning_rate,timestamp"
    )
    assert lines[-1].startswith("10,1,0.023456,N/A,N/A,N/A,5e-05,20")


def test_what_is_written_is_read_back(tmp_path: Path):
    log = LossLog(tmp_path / "log.txt")
    log.write(1, 1, 0.5, 1e-4)
    log.write(2, 1, 0.25, 1e-4)
    log.close()
    rows = read_loss_log(log.path)
    assert [(row.step, row.total_loss, row.learning_rate) for row in rows] == [(1, 0.5, 1e-4), (2, 0.25, 1e-4)]
    assert {row.visual_loss for row in rows} == {None}


def test_the_older_simple_form_is_read(tmp_path: Path):
    path = tmp_path / "old.txt"
    path.write_text("# old\nstep,loss\n1,0.5\n2,0.25\n", encoding="utf-8")
    assert read_loss_log(path) == [LossRow(1, 0.5), LossRow(2, 0.25)]
    path.write_text("1,0.5\n", encoding="utf-8")
    assert read_loss_log(path) == [LossRow(1, 0.5)]


def test_a_last_line_cut_by_a_crash_is_left_out_and_any_other_is_an_error(tmp_path: Path):
    path = tmp_path / "log.txt"
    path.write_text(f"{HEADER}\n1,1,0.5,N/A,N/A,N/A,5e-05,t\n2,1,0.", encoding="utf-8")
    assert [row.step for row in read_loss_log(path)] == [1]
    path.write_text(f"{HEADER}\n1,1,x,N/A,N/A,N/A,5e-05,t\n2,1,0.5,N/A,N/A,N/A,5e-05,t\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2 of"):
        read_loss_log(path)


def test_a_log_that_goes_on_keeps_the_rows_up_to_the_state_and_that_step_itself(tmp_path: Path):
    """A state of step 2, rows up to 3 and half of a fourth: 1 and 2 stay, the rest comes again."""
    log = LossLog(tmp_path / "log.txt")
    for step in (1, 2, 3):
        log.write(step, 1, 0.5, 1e-4)
    log.close()
    with log.path.open("a", encoding="utf-8") as file:
        file.write("4,1,0.")
    LossLog(log.path, after_step=2).close()
    assert [row.step for row in read_loss_log(log.path)] == [1, 2]
    again = LossLog(log.path, after_step=2)
    again.write(3, 1, 0.25, 1e-4)
    again.close()
    assert [(row.step, row.total_loss) for row in read_loss_log(log.path)] == [(1, 0.5), (2, 0.5), (3, 0.25)]
    assert log.path.read_text(encoding="utf-8").count(HEADER) == 1
    LossLog(log.path).close()
    assert read_loss_log(log.path) == []


def test_the_image_losses_of_a_row_stand_under_their_names(tmp_path: Path):
    log = LossLog(tmp_path / "log.txt")
    log.write(1, 2, 0.5, 1e-4, 0.0, visual_loss=0.1, fashion_clip_loss=0.2, color_loss=0.3)
    log.close()
    (row,) = read_loss_log(log.path)
    assert (row.visual_loss, row.fashion_clip_loss, row.color_loss, row.epoch) == (0.1, 0.2, 0.3, 2)
    assert row.timestamp is not None
    assert row.timestamp.startswith(("1970", "1969"))


@pytest.mark.parametrize("head", ["step,loss,loss", "step,total_loss,loss", "step,step,loss"])
def test_a_header_that_names_a_column_twice_is_refused_by_its_line(tmp_path: Path, head: str):
    (tmp_path / "log.txt").write_text(f"# a log\n{head}\n1,0.5,0.6\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2 of .*log\.txt: it names the column \w+ twice"):
        read_loss_log(tmp_path / "log.txt")
