"""Logs that the tests write: each format's lines, around the numbers of a small run.

A format is one entry of `FORMATS`: a line as its program prints it, with places for
``step``, ``loss``, ``norm`` and ``rate``, and what comes before all lines.
"""
# ruff: noqa: E501 (lines of programs are as long as they are)

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """What one line tells."""

    step: int
    loss: float
    norm: float
    rate: float


def run(steps: int = 8, first: int = 1, every: int = 1) -> list[Record]:
    """A sound run: gradient descent on a quadratic bowl, with a seeded disturbance."""
    records, weight = [], 1.0
    for k in range(steps):
        gradient = 2 * weight + 0.1 * math.sin(5 * k)
        loss = 1.5 + weight * weight + 0.01 * math.cos(3 * k)
        records.append(Record(first + every * k, loss, abs(gradient), 1e-3 / (k + 1)))
        weight -= 0.1 * gradient
    return records


@dataclass(frozen=True)
class Format:
    """How a program writes a record.

    Args:
        line: The line, for ``str.format`` with the fields of a record.
        before: Lines before the first one.
        columns: Columns that the line tells, besides the steps.
        digits: Decimal places of the loss.
    """

    line: str
    before: str = ""
    columns: Sequence[str] = ("loss",)
    digits: int = 4


LOSS, NORM, RATE = "loss", "gradient_norm", "learning_rate"

FORMATS: dict[str, Format] = {
    "hf_trainer_dict": Format(
        "{{'loss': {loss:.4f}, 'grad_norm': {norm!r}, 'learning_rate': {rate!r}, "
        "'epoch': 0.{step:03d}}}",
        columns=(LOSS, NORM, RATE),
    ),
    "trl_dict": Format(
        "{{'loss': {loss:.4f}, 'grad_norm': {norm!r}, 'learning_rate': {rate!r}, "
        "'reward': 0.5, 'reward_std': 0.25, 'kl': 0.001, 'epoch': 0.{step:03d}}}",
        columns=(LOSS, NORM, RATE),
    ),
    "swift_jsonl": Format(
        '{{"loss": {loss:.4f}, "grad_norm": {norm!r}, "learning_rate": {rate!r}, '
        '"epoch": 0.1, "global_step/max_steps": "{step}/900", "percentage": "1.00%"}}',
        columns=(LOSS, NORM, RATE),
    ),
    "epoch_jsonl": Format(
        '{{"train_loss": {loss:.4f}, "train_lr": {rate!r}, "test_acc1": 50.5, '
        '"epoch": {step}, "n_parameters": 5000}}',
        columns=(LOSS, RATE),
    ),
    "fairseq_json": Format(
        '2001-01-01 10:00:00 | INFO | train_inner | {{"epoch": 1, "loss": '
        '"{loss:.4f}", "gnorm": "{norm:.4f}", "loss_scale": "128", "num_updates": '
        '"{step}"}}',
        columns=(LOSS, NORM, "loss_scale"),
    ),
    "fairseq": Format(
        "| epoch 001 | loss {loss:.4f} | nll_loss 1.5 | ppl 8.00 | wps 900 | "
        "num_updates {step} | lr {rate:.8f} | gnorm {norm:.4f} | clip 0% | "
        "loss_scale 128.000 | wall 12",
        columns=(LOSS, NORM, RATE, "perplexity", "loss_scale"),
    ),
    "fairseq ": Format(
        "2001-01-01 10:00:00 | INFO | train_inner | epoch 001:      5 / 356 "
        "loss={loss:.4f}, ppl=8, num_updates={step}, lr={rate:.8f}, gnorm={norm:.4f}, "
        "loss_scale=128, wall=12",
        columns=(LOSS, NORM, RATE, "perplexity", "loss_scale"),
    ),
    "mmcv": Format(
        "2001-01-01 10:00:00,000 - mmdet - INFO - Epoch [1][{step}/900]\tlr: "
        "{rate:.3e}, eta: 1:02:03, time: 0.5, memory: 900, loss_cls: 0.5, loss: "
        "{loss:.4f}, grad_norm: {norm:.4f}",
        columns=(LOSS, NORM, RATE, "loss_cls"),
    ),
    "mmengine": Format(
        "01/02 10:00:00 - mmengine - INFO - Epoch(train)  [1][{step:4d}/900]  lr: "
        "{rate:.4e}  eta: 1:02:03  time: 0.5  memory: 900  loss: {loss:.4f}  "
        "grad_norm: {norm:.4f}",
        columns=(LOSS, NORM, RATE),
    ),
    "metric_logger": Format(
        "Epoch: [0]  [{step:4d}/900]  eta: 0:10:00  lr: {rate:.6f}  loss: {loss:.4f} "
        "(2.0000)  loss_scale: 1024.0000 (1100.0000)  grad_norm: {norm:.4f} (inf)  "
        "time: 0.4  max mem: 900",
        columns=(LOSS, NORM, RATE, "loss_scale", "average_loss"),
    ),
    "swin": Format(
        "[2001-01-01 10:00:00 tiny] (main.py 9): INFO Train: [0/300][{step}/900]\teta "
        "0:10:00 lr {rate:.6f}\t wd 0.0500\ttime 0.4 (0.4)\tloss {loss:.4f} (2.0000)\t"
        "grad_norm {norm:.4f} (1.5000)\tloss_scale 1024.0000 (1024.0000)\tmem 900MB",
        columns=(LOSS, NORM, RATE, "loss_scale", "average_loss"),
    ),
    "litgpt": Format(
        "iter {step} step 4: loss {loss:.4f}, iter time: 12.50ms (optimizer.step)"
    ),
    "nanogpt": Format("iter {step}: loss {loss:.4f}, time 12.50ms, mfu 3.10%"),
    "megatron": Format(
        " iteration {step:8d}/    5000 | consumed samples:          512 | elapsed time "
        "per iteration (ms): 400.0 | learning rate: {rate:.3E} | global batch size:   "
        "  8 | lm loss: {loss:.6E} | loss scale: 1.0 | grad norm: {norm:.3f} | number "
        "of skipped iterations:   0 | number of nan iterations:   0 |",
        columns=(LOSS, NORM, RATE, "loss_scale"),
    ),
    "neox": Format(
        " samples/sec: 1.236 | iteration {step:8d}/    5000 | elapsed time per "
        "iteration (ms): 400.0 | learning rate: {rate:.3E} | lm_loss: {loss:.6E} | "
        "number of skipped iterations:   0 |",
        columns=(LOSS, RATE),
    ),
    "sat": Format(
        "[2001-01-01 10:00:00,000] [INFO] [RANK 0]  iteration {step:8d}/    5000 | "
        "elapsed time per iteration (ms): 400.0 | learning rate {rate:.3E} | total loss "
        "{loss:.6E} | loss {loss:.6E} | loss scale 32768.0 |speed 5.40 samples/(min*GPU)",
        columns=(LOSS, RATE, "loss_scale"),
    ),
    "tacotron": Format(
        "Train loss {step} {loss:.6f} Grad Norm {norm:.6f} 2.51s/it",
        columns=(LOSS, NORM),
    ),
    "dllogger": Format(
        "DLL 2001-01-01 10:00:00.000000 - Training Epoch: 0 Training Iteration: {step}  "
        "average_loss : 2.0  step_loss : {loss:.4f}  learning_rate : {rate:.8f}",
        columns=(LOSS, RATE, "average_loss"),
    ),
    "torchtitan": Format(
        "[rank0]:[titan] 2001-01-01 10:00:00,000 - root - INFO - step: {step:2d}  loss: "
        " {loss:.5f}  grad_norm:  {norm:.4f}  memory:  9.46GiB(66.44%)  tps: 7,282  "
        "tflops: 0.53  mfu: 0.17%",
        columns=(LOSS, NORM),
    ),
    "torchtune": Format(
        "Step {step} | loss:{loss:.6f} lr:{rate:.8f} tokens_per_second_per_gpu:900.5",
        columns=(LOSS, RATE),
    ),
    "mlx": Format(
        "Iter {step}: Train loss {loss:.3f}, Learning Rate {rate:.3e}, It/sec 17.957, "
        "Tokens/sec 1763.377, Trained Tokens 6521, Peak mem 1.437 GB",
        columns=(LOSS, RATE),
        digits=3,
    ),
    "lightning": Format(
        "Epoch 0:  11%|█▏        | {step}/900 [00:11<01:33,  5.82s/it, loss={loss:.3f}, "
        "v_num=7]",
        digits=3,
    ),
    "tqdm_pairs": Format(
        "Steps:   1%|▏         | {step}/900 [00:11<01:33,  5.82it/s, lr={rate:.8f}, "
        "step_loss={loss:.4f}]",
        columns=(LOSS, RATE),
    ),
    "tqdm_pairs ": Format(
        "steps:   1%|▏         | {step}/900 [00:11<01:33,  5.82it/s, avr_loss={loss:.3f}]",
        digits=3,
    ),
    "keras": Format(
        "{step:3d}/900 [>.............................] - ETA: 19:24 - loss: {loss:.4f} "
        "- accuracy: 0.5938",
        before="Epoch 1/5",
        columns=(LOSS, "accuracy"),
    ),
    "ultralytics": Format(
        "{step:8d}/100      2.37G     {loss:.4f}        0.5        0.5         16       "
        " 640: 100%|██████████| 7/7 [00:02<00:00,  2.42it/s]",
        before="      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances      "
        " Size",
        columns=("box_loss", "cls_loss", "dfl_loss"),
    ),
    "ultralytics ": Format(
        "   {step:5d}/99     2.37G    {loss:.4f}   0.05   0.5       16       640: "
        "100%|████| 7/7 [00:02<00:00,  2.42it/s]",
        before="     Epoch   gpu_mem       box       obj       cls    labels  img_size",
        columns=("box_loss", "obj_loss", "cls_loss"),
    ),
    "detectron2": Format(
        "[01/01 10:00:00 d2.utils.events]:  eta: 5:41:49  iter: {step}  total_loss: "
        "{loss:.4f}  loss_cls: 0.5  loss_box_reg: 0.5  time: 0.2293  data_time: 0.0033 "
        " lr: {rate:.6f}  max_mem: 3782M",
        columns=(LOSS, RATE, "loss_cls", "loss_box_reg"),
    ),
    "frcnn_session": Format(
        "[session 1][epoch  1][iter {step:4d}/ 900] loss: {loss:.4f}, lr: {rate:.2e}\n"
        "\t\t\tfg/bg=(58/4038), time cost: 10.137277\n"
        "\t\t\trpn_cls: 0.7353, rpn_box: 0.1108, rcnn_cls: 0.2178, rcnn_box 0.0223",
        columns=(LOSS, RATE, "rpn_cls"),
    ),
    "caffe": Format(
        "I0101 10:00:00.000000 9 solver.cpp:228] Iteration {step} (2.5 iter/s, 8s/20 "
        "iters), loss = {loss:.4f}\n"
        "I0101 10:00:00.000000 9 solver.cpp:244]     Train net output #0: loss = "
        "{loss:.4f} (* 1 = {loss:.4f} loss)\n"
        "I0101 10:00:00.000000 9 sgd_solver.cpp:106] Iteration {step}, lr = {rate:.6f}",
        columns=(LOSS, RATE),
    ),
    "darknet": Format(
        "Region 23 Avg IOU: -nan, Class: -nan, Obj: -nan, No Obj: 0.555, .5R: -nan, "
        "count: 0\n"
        " {step}: {loss:.6f}, 2.000000 avg loss, {rate:.6f} rate, 2.054143 seconds, 128 "
        "images",
        columns=(LOSS, RATE, "average_loss"),
    ),
    "tf_slim": Format(
        "INFO:tensorflow:global step {step}: loss = {loss:.4f} (0.5 sec/step)"
    ),
    "tf_estimator": Format(
        "INFO:tensorflow:loss = {loss:.6f}, step = {step} (1.154 sec)"
    ),
    "opennmt": Format(
        "[2001-01-01 10:00:00,000 INFO] Step {step}/100000; acc:   5.30; ppl: 20.25; "
        "xent: {loss:.4f}; lr: {rate:.7f}; 4132/2064 tok/s;     52 sec",
        columns=(LOSS, RATE, "perplexity", "acc"),
    ),
    "opennmt ": Format(
        "Epoch  1, {step:5d}/ 900; acc:   5.30; ppl: 20.25; xent: {loss:.4f}; 3438 src "
        "tok/s; 3517 tgt tok/s;     98 s elapsed",
        columns=(LOSS, "perplexity", "acc"),
    ),
    "ppocr": Format(
        "[2001/01/01 10:00:00] ppocr INFO: epoch: [1/500], global_step: {step}, lr: "
        "{rate:.6f}, acc: 0.5, CTCLoss: {loss:.6f}, loss: {loss:.6f}, avg_reader_cost: "
        "0.00013 s, avg_batch_cost: 0.3 s, ips: 423.9 samples/s, eta: 2 days, 17:48:30",
        columns=(LOSS, RATE, "acc", "ctcloss"),
    ),
    "espnet": Format(
        "[host] 2001-01-01 10:00:00,000 (trainer:800) INFO: "
        "1epoch:train:{step}-{step}batch: iter_time=0.001, forward_time=0.3, "
        "loss_ctc=1.5, loss_att=0.5, acc=0.5, loss={loss:.4f}, "
        "optim0_lr0={rate:.4e}, train_time=2.5",
        columns=(LOSS, RATE, "loss_ctc", "loss_att", "acc"),
    ),
    "columns": Format(
        "  0  {step:6d}      {loss:10.4f}    39.85    3.61    5.56    2.67    0.04",
        before="E    #       LOSS TOK2VEC  LOSS NER  ENTS_F  ENTS_P  ENTS_R  SCORE\n"
        "---  ------  ------------  --------  ------  ------  ------  ------",
        columns=("loss_tok2vec", "loss_ner", "score"),
    ),
    "timm": Format(
        "Train: 0 [{step:4d}/900 (  2%)]  Loss:  {loss:.6f} (2.0000)  Time: 0.680s,  "
        "139.14/s  (0.680s,  139.14/s)  LR: {rate:.3e}  Data: 0.076 (0.076)",
        columns=(LOSS, RATE, "average_loss"),
    ),
    "coqui": Format(
        "   --> TIME: 2001-01-01 10:00:00 -- STEP: {step}/900 -- GLOBAL_STEP: {step}\n"
        "     | > loss: {loss:.6f}  (2.0000)\n"
        "     | > grad_norm: tensor({norm:.6f}, device='cuda:0')  (1.5)\n"
        "     | > current_lr: {rate:.8f}\n"
        "     | > step_time: 0.9393  (0.9392588138580322)\n",
        columns=(LOSS, NORM, "average_loss"),
    ),
    "pytorch_imagenet": Format(
        "Epoch: [0][{step}/900]\tTime 0.5 (0.6)\tData 0.1 (0.1)\tLoss {loss:.4f} "
        "(2.0000)\tPrec@1 10.000 (9.500)",
        columns=(LOSS, "average_loss"),
    ),
    "box": Format(
        "-----------------------------------------\n"
        "| rollout/                |             |\n"
        "|    ep_rew_mean          | -213        |\n"
        "| time/                   |             |\n"
        "|    iterations           | 18          |\n"
        "|    total_timesteps      | {step}      |\n"
        "| train/                  |             |\n"
        "|    approx_kl            | 0.01        |\n"
        "|    loss                 | {loss:.4f}  |\n"
        "-----------------------------------------",
        columns=(LOSS,),
    ),
    "verl": Format(
        "step:{step} - global_seqlen/min:2780.000 - critic/vf_loss:{loss:.4f} - "
        "critic/lr:0.000 - actor/pg_loss:-0.013 - actor/grad_norm:9.819",
        columns=("critic/vf_loss", "actor/pg_loss", "actor/grad_norm"),
    ),
    "slash_pairs": Format(
        "[{step}] model_loss {loss:.4f} / kl_loss 1.5 / fps 12.5",
        columns=("model_loss", "kl_loss"),
    ),
    "pipe_equals": Format(
        "elapsed_time=1.78s | step={step} | loss={loss:.5f} | alive_ray_mask=64 | "
        "num_rays=64 |",
        columns=(LOSS, "num_rays"),
    ),
    "ssd_pytorch": Format("iter {step} || Loss: {loss:.4f} || timer: 0.2035 sec."),
    "mxnet": Format(
        "Epoch[0] Batch [{step}]\tSpeed: 900.5 samples/sec\tloss={loss:.6f}\ttime=0.5",
    ),
    "csv": Format(
        '"{step}","{loss:.4f}","{loss:.4f}","{loss:.4f}"',
        before='"Step","run-1 - train/loss","run-1 - train/loss__MIN","run-1 - '
        'train/loss__MAX"',
    ),
    "csv ": Format("978343200.5,{step},{loss:.4f}", before="Wall time,Step,Value"),
    "plain_pairs   ": Format(
        "################################################################\n"
        "                     Learning iteration {step}/900\n\n"
        "                       Computation: 14963 steps/s (collection: 6.407s)\n"
        "               Value function loss: 0.5\n"
        "                 Entropy mean loss: 0.5\n"
        "                              Loss: {loss:.4f}\n"
        "             Mean action noise std: 0.56\n"
        "                 Mean total reward: 25.66\n"
        "                   Total timesteps: 1769472\n",
        columns=(LOSS, "value_function_loss", "mean_total_reward"),
    ),
    "plain_pairs    ": Format(
        "2001-01-01 10:00:00.000 host:0  olmo.train:908  INFO    [step={step}/900,epoch=0]\n"
        "    optim/total_grad_norm={norm:.4f}\n"
        "    train/CrossEntropyLoss={loss:.6f}\n"
        "    train/Perplexity=195,153\n"
        "    throughput/total_tokens=1,048,576\n",
        columns=(LOSS, NORM, "perplexity"),
    ),
    "plain_pairs     ": Format(
        "INFO 2001-01-01 10:00:00 ot_train.py:351 step:{step} smpl:6K ep:9 epch:0.03 "
        "loss:{loss:.4f} grdn:{norm:.4f} lr:{rate:.1e} updt_s:4.478 data_s:0.038",
        columns=(LOSS, NORM, RATE),
    ),
    "plain_pairs": Format(
        "Epoch 1 step {step} Loss: {loss:.4f} ppl: 8.0 lr: {rate:.8f}"
    ),
    "plain_pairs ": Format("Epoch [1/10], Step [{step}/600], Loss: {loss:.4f}"),
    "plain_pairs  ": Format("[Iteration {step}] Loss is {loss:.4f}. Rate is 0.1."),
}
"""Name -> how it is written. Blanks behind a name tell variants apart."""


def write(name: str, records: Sequence[Record]) -> str:
    """The records as the program prints them."""
    known = FORMATS[name]
    lines = [known.before] if known.before else []
    lines += [
        known.line.format(step=r.step, loss=r.loss, norm=r.norm, rate=r.rate)
        for r in records
    ]
    return "\n".join(lines) + "\n"
