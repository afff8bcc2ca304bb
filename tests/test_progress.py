import io
import time
from contextlib import redirect_stderr

from pretrain.progress import progress_bar
from pretrain.training.callbacks import ProgressBar


def test_what_was_done_before_does_not_make_the_rest_look_fast():
    err = io.StringIO()
    with redirect_stderr(err):
        bar = ProgressBar(1000, "ntp", start=900)
        clock = bar._bar.start_t
        bar._bar._time = lambda: clock + 20.0
        bar.on_step(910)
        bar._bar.refresh()
        bar.close()
    # 10 steps in 20 seconds: 90 more take 180.
    assert "910/1000 [00:20<03:00,  2.00s/step]" in err.getvalue()


def test_on_a_terminal_a_bar_moves_while_a_unit_takes_long():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    with redirect_stderr(terminal):
        bar = progress_bar(10, "ntp")
        time.sleep(2.0)
        drawn = terminal.getvalue()
        bar.update(1)
        time.sleep(2.0)
        moved = terminal.getvalue()[len(drawn) :]
        bar.close()
    assert "[00:01<" in drawn  # nobody told it of a step
    assert "1/10 [00:0" in moved
