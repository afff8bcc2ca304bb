import io
from contextlib import redirect_stderr

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
