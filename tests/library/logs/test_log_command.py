"""The command: pages, JSON, exit codes, plots, growing files, checkpoints."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from written import run, write

from gradlib.__main__ import main

SOUND = write("nanogpt", run(12))
BROKEN = SOUND + "iter 13: loss nan, time 9.5ms\n"
SHORT = write("nanogpt", run(2))


@pytest.fixture
def folder(tmp_path):
    for name, text in {"sound": SOUND, "broken": BROKEN, "short": SHORT}.items():
        (tmp_path / f"{name}.log").write_text(text)
    (tmp_path / "empty.log").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["sound"], 0),
        (["broken"], 1),
        (["short"], 2),
        (["empty"], 3),
        (["missing"], 3),
        (["sound", "short"], 2),
        (["sound", "empty", "short"], 3),
        (["empty", "broken"], 1),
    ],
)
def test_exit_codes(folder, names, code, capsys):
    assert main(["log", *(str(folder / f"{name}.log") for name in names)]) == code
    said = capsys.readouterr()
    assert bool(said.err) == any(name in ("empty", "missing") for name in names)
    assert "Traceback" not in said.err


def test_the_page_begins_with_the_verdict(folder, capsys):
    main(["log", str(folder / "broken.log")])
    page = capsys.readouterr().out
    assert page.startswith("BROKEN\nDiagnosis: ")
    assert "First bad: step 13" in page


def test_json_is_one_line_a_file(folder, capsys):
    names = [str(folder / f"{name}.log") for name in ("sound", "broken", "empty")]
    main(["log", "--json", *names])
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [entry["verdict"] for entry in said] == ["healthy", "broken", None]
    assert said[1]["first_bad_step"] == 13
    assert "no number of a training" in said[2]["error"]


def test_a_plot_is_written(folder, capsys):
    path = folder / "out.png"
    assert main(["log", "--plot", str(path), str(folder / "broken.log")]) == 1
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("option", ["--follow", "--plot=out.png"])
def test_options_for_one_file_refuse_two(folder, option, capsys):
    names = [str(folder / "sound.log"), str(folder / "broken.log")]
    assert main(["log", option, *names]) == 3
    assert "expected one file" in capsys.readouterr().err


def test_the_input_is_read(folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(BROKEN.encode())))
    assert main(["log", "-"]) == 1


def environment():
    root = Path(__file__).parents[3]
    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


def test_a_growing_file_is_followed(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(SOUND)
    command = [sys.executable, "-u", "-m", "gradlib", "log", "--follow", "--every=0.05"]
    process = subprocess.Popen(
        [*command, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        # a shell has programs in the background ignore it
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert " healthy: " in process.stdout.readline()
        with path.open("a") as file:
            file.write("iter 13: loss na")
            file.flush()
            time.sleep(0.2)
            file.write("n, time 9.5ms\n")
        assert " BROKEN since 13: " in process.stdout.readline()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 1


def test_a_pipe_is_followed_to_its_end():
    said = subprocess.run(
        [sys.executable, "-m", "gradlib", "log", "--follow", "-"],
        input=BROKEN, capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    assert said.returncode == 1
    assert " BROKEN since 13: " in said.stdout


def test_it_starts_without_torch_in_a_third_of_a_second(folder):
    code = (
        "import sys, time; start = time.process_time(); from gradlib.__main__ import "
        f"main; main(['log', {str(folder / 'sound.log')!r}]); "
        "print(time.process_time() - start, 'torch' in sys.modules, "
        "'numpy' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=environment(),
    )  # fmt: skip
    seconds, *heavy = said.stdout.splitlines()[-1].split()
    assert heavy == ["False", "False"]
    assert float(seconds) < 0.3


@pytest.fixture
def weights():
    generator = torch.Generator().manual_seed(0)
    return {
        f"layers.{k}.{kind}": torch.randn(8, 8, generator=generator)
        for k in range(5)
        for kind in ("query", "key")
    }


def test_a_sound_checkpoint(tmp_path, weights, capsys):
    torch.save({"model": weights, "step": 7, "done": True}, tmp_path / "a.pt")
    assert main(["checkpoint", str(tmp_path / "a.pt")]) == 0
    assert "10 tensors, 0 with NaN" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_broken_and_odd_tensors_are_named(tmp_path, weights, kind, capsys):
    weights["layers.1.query"][2, 3] = torch.nan
    weights["layers.2.key"][0] = torch.inf
    weights["layers.3.key"] *= 100
    weights["layers.4.query"] = weights["layers.4.query"].to(torch.bfloat16) / 100
    path = tmp_path / f"model.{kind}"
    if kind == "pt":
        torch.save(weights, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(weights, path)
    assert main(["checkpoint", "--json", str(path)]) == 1
    said = json.loads(capsys.readouterr().out)
    broken = {row["name"]: (row["nans"], row["infinities"]) for row in said["broken"]}
    assert broken == {"layers.1.query": (1, 0), "layers.2.key": (0, 8)}
    odd = {row["name"] for row in said["outliers"]}
    assert odd == {"layers.3.key", "layers.4.query"}


def test_outliers_alone_are_unclear(tmp_path, weights):
    weights["layers.3.key"] *= 100
    torch.save(weights, tmp_path / "a.pt")
    assert main(["checkpoint", str(tmp_path / "a.pt")]) == 2


def test_moments_of_an_optimizer_are_no_siblings(tmp_path, weights):
    held = {k: {"exp_avg": torch.full((4,), 10.0**k)} for k in range(4)}
    torch.save({"model": weights, "optimizer": {"state": held}}, tmp_path / "a.pt")
    assert main(["checkpoint", str(tmp_path / "a.pt")]) == 0


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pt", b"no checkpoint", "expected tensors and plain values"),
        ("a.safetensors", b"no checkpoint", "expected safetensors"),
        ("a.pt", b"", "expected tensors and plain values"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, name, content, said, capsys):
    (tmp_path / name).write_bytes(content)
    assert main(["checkpoint", str(tmp_path / name)]) == 3
    assert said in capsys.readouterr().err


class Evil:
    def __reduce__(self):
        return print, ("code of the file ran",)


def test_code_in_a_checkpoint_does_not_run(tmp_path, capsys):
    torch.save({"w": torch.ones(2), "evil": Evil()}, tmp_path / "a.pt")
    assert main(["checkpoint", str(tmp_path / "a.pt")]) == 3
    said = capsys.readouterr()
    assert "ran" not in said.out
    assert "expected tensors and plain values" in said.err


def test_a_checkpoint_without_numbers_is_refused(tmp_path, capsys):
    torch.save({"step": torch.tensor(3)}, tmp_path / "a.pt")
    assert main(["checkpoint", str(tmp_path / "a.pt")]) == 3
    assert "found none" in capsys.readouterr().err
