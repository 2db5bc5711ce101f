"""diagnose_log(): each rule has a log where it speaks and one where it is silent."""

import math
import random

import pytest
from written import run, write

from gradlib import diagnose_log, read_log
from gradlib.diagnosis.evidence.training_log import TrainingLog
from gradlib.diagnosis.rules.log.sign import BROKEN
from gradlib.diagnosis.rules.log.table import LOG_RULES

NAN = math.nan


def trainer(losses, norms=None, rates=None, extra=""):
    """Lines of the Hugging Face Trainer."""
    lines = []
    for k, loss in enumerate(losses):
        norm = "" if norms is None else f"'grad_norm': {norms[k]}, "
        rate = 1e-4 * (1 - k / 100) if rates is None else rates[k]
        lines.append(
            f"{{'loss': {loss}, {norm}'learning_rate': {rate!r}, {extra}'epoch': 0.1}}"
        )
    return "\n".join(lines) + "\n"


def iterations(losses, first=1, every=1):
    """Lines of nanoGPT."""
    return "".join(
        f"iter {first + every * k}: loss {loss}, time 9.5ms\n"
        for k, loss in enumerate(losses)
    )


def noisy(level, count, spread=0.05, seed=0):
    """A loss that scatters around a level."""
    draw = random.Random(seed)
    return [round(level + draw.gauss(0, spread), 4) for _ in range(count)]


def overflow(before, after=None):
    ends = f"reducing to {after}" if after else "but hysteresis is 2"
    return f"OVERFLOW! Skipping step. Attempted loss scale: {before}, {ends}\n"


def falling_scale(start, count):
    return "".join(overflow(start / 2**k, start / 2 ** (k + 1)) for k in range(count))


def norms_alone(norms):
    """Rows of a run that was watched without a loss."""
    return "".join(f"step: {k}, grad_norm: {n}\n" for k, n in enumerate(norms, 1))


def box(**rows):
    lines = [f"| {name} | {value} |\n" for name, value in rows.items()]
    return "".join(["-------------\n", *lines, "-------------\n"])


def falling(count, start=2.5, by=0.05):
    """A loss that falls at every record."""
    return [round(start - by * k, 4) for k in range(count)]


def epochs(losses, length):
    """Lines of epochs in which steps start again."""
    return "".join(
        f"Epoch {k // length} step {k % length} loss {loss}\n"
        for k, loss in enumerate(losses)
    )


def rivals(losses):
    """Losses of a discriminator, and of a generator."""
    return "".join(
        f"step: {k} d_loss: {loss} g_loss: {9.5 + k % 3}\n"
        for k, loss in enumerate(losses)
    )


SOUND = iterations(noisy(2.5, 20))
QUIET = noisy(2.5, 20)

PAIRS = {
    "first_nonfinite": (
        iterations([*QUIET, NAN, NAN, NAN]),
        SOUND,
    ),
    "hidden_nan": (
        trainer([2.5, 2.4, 0.0, 0.0, 0.0]),
        trainer([2.5, 2.4, 0.0, 2.3, 2.2]),
    ),
    "zero_records": (
        trainer([2.5, 2.4, 0.0, 2.3, 0.0, 2.2]),
        trainer([2.5, 0.4, 0.0, 0.002, 0.0, 0.001]),
    ),
    "nothing_to_learn": (
        trainer([0.0] * 5, norms=[0.0] * 5),
        trainer([0.0, 0.0, 0.5, 0.4, 0.3], norms=[0.0, 0.0, 1.0, 1.0, 1.0]),
    ),
    "gone_at_once": (
        iterations([12.5, 1.5e-6, 0.0, 0.0, 0.0]),
        iterations([12.5, 1.5, 0.0, 0.0, 0.0]),
    ),
    "constant_norm": (
        trainer([0.0] * 3, norms=[1.7320508075688772] * 3),
        trainer([0.0] * 3, norms=[1.7320508075688772, 0.5, 0.25]),
    ),
    "scale_collapse": (
        SOUND + falling_scale(128.0, 5),
        SOUND + falling_scale(65536.0, 5),
    ),
    "scaler_searching": (falling_scale(65536.0, 5), SOUND),
    "overflow_and_rise": (
        iterations(noisy(0.5, 6)) + falling_scale(4096.0, 2)
        + iterations(noisy(2.5, 6), first=7),
        iterations(noisy(0.5, 6)) + falling_scale(4096.0, 2)
        + iterations(noisy(0.5, 6), first=7),
    ),
    "norm_not_finite": (
        trainer(falling(9), norms=[NAN, *[1.5] * 8]),
        trainer(noisy(2.5, 9), norms=[1.5] * 9),
    ),
    "norm_without_loss": (
        norms_alone([1.5] * 9 + [NAN] * 3),
        norms_alone([1.5] * 9 + [math.inf] * 3 + [1.5]),
    ),
    "average_not_finite": (
        write("metric_logger", run()),
        write("metric_logger", run()).replace("(inf)", "(1.5)"),
    ),
    "explosion": (
        iterations([2.5, 2.4, 2.6, 9.5, 40.5, 41.5, 43.5, 44.5, 45.5]),
        iterations([2.5, 2.4, 2.6, 2.5, 12.5, 2.4, 2.3, 2.2, 2.1]),
    ),
    "perplexity_rise": (
        "".join(
            f"Step {50 * k}/900; acc: 5.0; ppl: {p}; xent: {math.log(p):.2f}; lr: 1.0\n"
            for k, p in enumerate([900, 300, 90, 80, 85, 400, 450, 500], 1)
        ),
        "".join(
            f"Step {50 * k}/900; acc: 5.0; ppl: {p}; xent: {math.log(p):.2f}; lr: 1.0\n"
            for k, p in enumerate([900, 300, 90, 80, 85, 120, 130, 110], 1)
        ),
    ),
    "slow_rise": (
        iterations([round(2.0 + 0.1 * k, 4) for k in range(12)]),
        iterations([round(2.0 + 0.02 * k, 4) for k in range(12)]),
    ),
    "at_chance": (
        iterations(noisy(math.log(1000), 12, spread=0.004), first=100),
        iterations(noisy(math.log(1000), 12, spread=0.004), first=1),
    ),
    "clamped": (
        iterations([3.5, 3.4, 87.3365, 87.3365], first=100, every=100),
        iterations([93.5, 87.3365, 80.5, 70.5], first=100, every=100),
    ),
    "no_update": (
        iterations([1.2345] * 5),
        iterations([1.2345] * 3 + [1.2346]),
    ),
    "repeated_epochs": (
        epochs(noisy(2.5, 5) * 3, 5),
        epochs(noisy(2.5, 5) * 2 + noisy(2.5, 5, seed=1), 5),
    ),
    "nothing_learned": (
        iterations(noisy(2.5, 40), first=0, every=10),
        iterations(falling(40), first=0, every=10),
    ),
    "no_gradient": (
        trainer([2.5, 2.51, 2.49, 2.5], norms=[0.0] * 4),
        trainer([2.5, 2.51, 2.49, 2.5], norms=[0.0, 0.0, 0.5, 0.5]),
    ),
    "resume_jump": (
        "Resuming from checkpoint\n" + iterations(noisy(0.5, 6), first=5000)
        + "Resuming from checkpoint\n" + iterations(noisy(4.5, 6), first=5006),
        "Resuming from checkpoint\n" + iterations(noisy(0.5, 12), first=5000),
    ),
    "stopped": (
        SOUND + "FloatingPointError: Minimum loss scale reached (0.0001).\n",
        SOUND + "training finished\n",
    ),
    "refused": (
        "WARNING: loss (=255294183.0) is not correct\n"
        "WARNING: grad norm is nan. Do not update model.\n",
        SOUND,
    ),
    "reward_without_gradient": (
        trainer([0.0] * 4, [0.0] * 4, extra="'reward': 0.5, 'reward_std': 0.4, "),
        trainer([0.0] * 4, [0.1] * 4, extra="'reward': 0.5, 'reward_std': 0.4, "),
    ),
    "reinforcement": (
        trainer([0.0] * 4, [0.1] * 4, extra="'reward': 0.5, 'reward_std': 0.4, "),
        trainer([2.5, 2.4, 2.3, 2.2], [0.1] * 4),
    ),
    "norm_spike": (
        trainer(falling(12), norms=[1.5] * 6 + [95.0] + [1.6] * 5),
        trainer(noisy(2.5, 12), norms=[1.5] * 6 + [9.5] + [1.6] * 5),
    ),
    "loss_spike": (
        iterations([*falling(6), 9.5, *falling(6, start=2.2)]),
        iterations([*falling(6), 4.5, *falling(6, start=2.2)]),
    ),
    "discriminator_wins": (
        rivals([0.0, 0.0, 0.25, 0.0, 0.0, 0.0]),
        rivals([0.0, 0.5, 0.25, 0.5, 0.25, 0.0]),
    ),
    "growing_sums": (
        "".join(
            f"step {k} loss {100.5 * k} score {0.1 * k}\n" for k in range(1, 8)
        ).replace(" score", ", score:").replace("loss ", "loss: "),
        SOUND,
    ),
    "negative_loss": (iterations([2.5, 1.5, 0.5, -0.5, -1.5]), SOUND),
    "epoch_boundaries": (
        "".join(
            f"Epoch {e}:  11%|█▏ | {i}/10 [00:11<01:33, 5.82s/it, "
            f"loss={2.5 - e + 0.001 * i:.3f}, v_num=1]\n"
            for e in range(3)
            for i in range(1, 11)
        ),
        "".join(
            f"Epoch {e}:  11%|█▏ | {i}/10 [00:11<01:33, 5.82s/it, "
            f"loss={2.5 - 0.01 * e - 0.001 * i:.3f}, v_num=1]\n"
            for e in range(3)
            for i in range(1, 11)
        ),
    ),
}  # fmt: skip


RULES = {rule.__name__: rule for rule in LOG_RULES}


def ask(rule, text):
    return RULES[rule](TrainingLog(read_log(text)))


def test_every_rule_has_a_pair_of_logs():
    assert set(PAIRS) == set(RULES)


@pytest.mark.parametrize("rule", PAIRS)
def test_a_rule_speaks_and_is_silent(rule):
    speaks, silent = PAIRS[rule]
    assert ask(rule, speaks) is not None
    assert ask(rule, silent) is None


@pytest.mark.parametrize("rule", PAIRS)
def test_a_sign_is_whole(rule):
    sign = ask(rule, PAIRS[rule][0])
    assert sign.symptom.endswith((".", ". "))
    if sign.verdict == BROKEN:
        assert sign.causes
        assert sign.step is not None
        assert sign.test
    else:
        assert not sign.causes


@pytest.mark.parametrize(
    ("rule", "verdict", "cause", "step"),
    [
        ("first_nonfinite", "broken", "fp16_overflow", 21),
        ("hidden_nan", "broken", "fp16_overflow", 3),
        ("nothing_to_learn", "broken", "labels_masked", 1),
        ("gone_at_once", "broken", "bad_data", 2),
        ("constant_norm", "broken", "fp16_overflow", 1),
        ("scale_collapse", "broken", "fp16_overflow", 21),
        ("norm_without_loss", "broken", "fp16_overflow", 10),
        ("overflow_and_rise", "broken", "lr_too_high", 7),
        ("explosion", "broken", "lr_too_high", 4),
        ("perplexity_rise", "broken", "lr_too_high", 50),
        ("at_chance", "broken", "lr_too_high", 100),
        ("clamped", "broken", "lr_too_high", 300),
        ("no_update", "broken", "detached_graph", 1),
        ("repeated_epochs", "broken", "optimizer_misconfigured", 0),
        ("nothing_learned", "unclear", "unknown", None),
        ("zero_records", "unclear", "unknown", 3),
        ("no_gradient", "broken", "detached_graph", 1),
        ("resume_jump", "broken", "resume_state_lost", 5006),
        ("stopped", "broken", "fp16_overflow", 21),
        ("reward_without_gradient", "broken", "software_version_bug", 1),
        ("scaler_searching", "healthy", "healthy", None),
        ("norm_not_finite", "healthy", "healthy", None),
        ("average_not_finite", "healthy", "healthy", None),
        ("reinforcement", "healthy", "healthy", None),
        ("growing_sums", "healthy", "healthy", None),
        ("epoch_boundaries", "healthy", "healthy", None),
        ("slow_rise", "unclear", "unknown", 12),
        ("norm_spike", "unclear", "unknown", 7),
        ("negative_loss", "unclear", "unknown", 4),
        ("loss_spike", "unclear", "unknown", 7),
        ("discriminator_wins", "unclear", "unknown", 0),
        ("refused", "unclear", "unknown", 1),
    ],
)
def test_the_report_says_what_the_rule_saw(rule, verdict, cause, step):
    report = diagnose_log(PAIRS[rule][0])
    assert (report.verdict, report.cause, report.first_bad_step) == (
        verdict,
        cause,
        step,
    )
    assert report.next_test if verdict != "healthy" else not report.findings
    assert bool(report.remarks) or verdict == "broken"


def test_too_few_records_are_unclear_and_say_what_to_show():
    report = diagnose_log(iterations([2.5, 2.6, 2.4]))
    assert report.verdict == "unclear"
    assert report.cause == "unknown"
    assert "at least 5 records" in report.next_test


def test_a_few_records_are_enough_where_each_is_lower():
    assert diagnose_log(iterations([2.5, 2.0, 1.5, 1.0])).verdict == "healthy"
    assert diagnose_log(iterations([2.5, 2.0, 2.1, 1.0])).verdict == "unclear"


@pytest.mark.parametrize(
    ("losses", "norms", "cause"),
    [
        ([NAN, NAN, NAN], None, "bad_data"),
        ([2.5, 2.6, 2.5, 3.5, 12.5, 40.5, NAN], None, "lr_too_high"),
        ([*QUIET, NAN], None, "fp16_overflow"),
        ([*QUIET, NAN], [*[1.5] * 18, 90.5, 95.5, NAN], "lr_too_high"),
    ],
)
def test_what_comes_before_the_nan_ranks_the_causes(losses, norms, cause):
    report = diagnose_log(trainer(losses, norms))
    assert (report.verdict, report.cause) == ("broken", cause)


def test_a_program_of_float32_is_not_told_to_leave_float16():
    text = "".join(
        f"I0101 10:00:00.0 9 solver.cpp:228] Iteration {20 * k}, loss = {loss}\n"
        for k, loss in enumerate([*QUIET, NAN, NAN])
    )
    assert diagnose_log(text).cause == "lr_too_high"


def test_the_norm_before_the_loss_is_named_first():
    text = trainer([2.5] * 3 + [2.51, 2.52, NAN], norms=[1.5, 1.6, 1.5, NAN, NAN, NAN])
    finding = diagnose_log(text).findings[0]
    assert finding.layer == "gradient_norm"
    assert diagnose_log(text).first_bad_step == 4


def test_the_number_that_is_told_is_that_of_the_curve_that_is_named():
    norms = [1.5, 1.6, 1.5, math.inf, NAN, NAN]
    text = trainer([2.5] * 3 + [2.51, NAN, NAN], norms=norms)
    symptom = diagnose_log(text).findings[0].symptom
    assert symptom.startswith("gradient_norm is the first number"), symptom
    assert "(inf)" in symptom


@pytest.mark.parametrize(("first", "asked"), [(0, "another batch"), (900, "rate 0")])
def test_no_updates_are_suspected_before_the_first(first, asked):
    assert asked in diagnose_log(iterations([NAN] * 5, first=first)).next_test


def test_a_part_of_the_loss_is_named():
    text = "".join(
        f"step: {k} rpn_loss: {'nan' if k > 3 else 0.5} box_loss: 0.5\n"
        for k in range(9)
    )
    assert diagnose_log(text).findings[0].layer == "rpn_loss"


@pytest.mark.parametrize(
    ("norms", "cause"),
    [
        ([NAN] * 4, "bad_data"),
        ([1.5] * 9 + [40.0, *[NAN] * 4], "lr_too_high"),
        ([1.5] * 9 + [math.inf] * 4, "fp16_overflow"),
    ],
)
def test_norms_without_a_loss_are_enough_to_call_a_run_broken(norms, cause):
    assert diagnose_log(norms_alone(norms)).cause == cause


def test_a_missing_loss_with_a_bad_norm_is_a_hidden_nan():
    good, bad = write("megatron", run(4)).splitlines()[:3], []
    for line in write("megatron", run(2, first=4)).splitlines():
        start, end = line.index("lm loss"), line.index("loss scale")
        bad.append(
            line[:start] + line[end:].replace("grad norm: ", "grad norm: nan # ")
        )
    report = diagnose_log("\n".join([*good, *bad]) + "\n")
    assert (report.verdict, report.first_bad_step) == ("broken", 4)


def test_a_loss_of_zero_is_a_mark_of_no_type():
    quiet = diagnose_log(trainer([*QUIET, 0.0, 0.0, 0.0]))
    assert all(finding.certainty == "possible" for finding in quiet.findings)
    climb = diagnose_log(trainer([*QUIET, 40.0, 900.0, 0.0, 0.0, 0.0]))
    assert (climb.cause, climb.findings[0].certainty) == ("lr_too_high", "likely")


def test_a_report_is_plain_text_plain_values_and_html():
    report = diagnose_log(PAIRS["hidden_nan"][0])
    page = str(report)
    assert repr(report) == page
    lines = [li for li in page.splitlines() if "https://" not in li]
    assert max(map(len, lines)) < 80
    assert "First bad: line 3" in page
    assert page.count("The loss is exactly 0") == 1
    plain = report.to_dict()
    assert plain["verdict"] == "broken"
    assert plain["first_bad_step"] == 3
    assert plain["next_test"] == report.next_test
    html = report._repr_html_()
    assert html.startswith("<p><b>broken: fp16_overflow</b>")
    assert "<table>" in html


def test_a_restarted_log_names_the_step_that_it_shows():
    text = iterations(QUIET) + iterations([*QUIET[:5], NAN, NAN])
    assert diagnose_log(text).first_bad_step == 6


def test_the_mean_of_an_epoch_may_repeat_only_where_nothing_is_updated():
    epoch = "Epoch {0}/9\n50/50 [=====] - 1s - loss: {1:.4f} - acc: 0.5\n"
    same = "".join(epoch.format(k, 5.7257) for k in range(1, 7))
    assert diagnose_log(same).cause == "detached_graph"
    falls = "".join(epoch.format(k, 5.7257 - 0.1 * k) for k in range(1, 7))
    assert diagnose_log(falls).verdict == "healthy"


def test_nan_between_blanks_is_a_number_and_no_part_of_a_name() -> None:
    sound = "".join(f"step {k} loss {2.5 - 0.01 * k:.2f} lr 0.1\n" for k in range(7))
    report = diagnose_log(sound + "step 7 loss nan lr 0.1\nstep 8 loss nan lr 0.1\n")
    assert (report.verdict, report.first_bad_step) == ("broken", 7)


def test_a_long_fall_of_the_scale_from_a_middle_level_is_not_called_healthy() -> None:
    report = diagnose_log(SOUND + falling_scale(16384.0, 13))
    assert report.verdict in {"broken", "unclear"}
    assert "16384" in str(report)


def test_a_run_that_starts_again_repeats_its_numbers_and_is_not_frozen():
    assert diagnose_log(iterations(falling(9)) * 2).verdict == "healthy"


def test_a_loss_that_stands_in_mid_run_is_unclear():
    report = diagnose_log(iterations(noisy(2.5, 40), first=90_000, every=10))
    assert report.verdict == "unclear"
    assert "from its start" in report.next_test


def test_nothing_is_expected_of_a_warm_up():
    rates = [1e-7 * k for k in range(1, 13)]
    assert diagnose_log(trainer(noisy(2.5, 12), rates=rates)).verdict == "healthy"
    assert diagnose_log(trainer(noisy(2.5, 12))).verdict == "unclear"


@pytest.mark.parametrize("count", [8, 30, 200])
def test_a_loss_that_only_scatters_is_seldom_called_healthy(count):
    """By chance it falls by 1.5 standard deviations in 7 of 100 logs."""
    logs = [
        iterations(noisy(4.6, count, spread=0.02, seed=seed)) for seed in range(100)
    ]
    verdicts = [diagnose_log(text).verdict for text in logs]
    assert verdicts.count("unclear") > 80
    assert "broken" not in verdicts


def test_a_short_log_that_loses_all_again_is_broken():
    text = iterations([15.5, 13.0, 3.8, 2.4, 1.4, 5.8, 7.1, 10.0], every=55)
    report = diagnose_log(text)
    assert (report.verdict, report.cause) == ("broken", "lr_too_high")
    assert report.first_bad_step == 276


def test_one_lucky_batch_is_no_best_level():
    losses = noisy(3.0, 12, spread=0.3)
    losses[5] = 0.5
    assert diagnose_log(iterations(losses)).verdict != "broken"


def test_a_spike_among_many_records_is_normal():
    losses = falling(40)
    losses[20] = 15.5
    report = diagnose_log(iterations(losses))
    assert report.verdict == "healthy"
    assert "unlike the others" in report.remarks[0]


def test_a_page_names_no_step_bad_that_is_only_odd():
    report = diagnose_log(PAIRS["loss_spike"][0])
    assert "First odd: step 7" in str(report)
    assert "first odd step 7" in report._repr_html_()
    assert "bad" not in f"{report}{report._repr_html_()}"


def test_what_was_watched_are_numbers_of_the_log():
    report = diagnose_log(iterations([15.5, 13.0, 3.8, 2.4, 1.4, 1.2, 1.1, NAN]))
    assert "loss from 15.5 to 1.1 between step 1 and step 7" in report.watched
