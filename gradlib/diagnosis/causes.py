"""The causes that a diagnosis can name: title, fix and chapter of each."""

from dataclasses import dataclass

BOOK = "https://your_org.github.io/exploding-gradients"


def page_of(chapter: str) -> str:
    """File of a chapter in the built book, with the section if one is named.

    Example:
        >>> page_of("causes#data"), page_of("causes")
        ('causes.html#data', 'causes.html')
    """
    name, mark, section = chapter.partition("#")
    return f"{name}.html{mark}{section}"


def address_of(chapter: str) -> str:
    """Where a chapter can be read, also by those who installed the library only.

    Example:
        >>> address_of("causes#data").removeprefix(BOOK)
        '/chapters/causes.html#data'
    """
    return f"{BOOK}/chapters/{page_of(chapter)}"


@dataclass(frozen=True)
class Cause:
    """One thing that breaks training: its plain name, its cure, where to read on.

    Args:
        title: Its plain name.
        fix: Its cure, as lines of code where they exist.
        chapter: The chapter that treats it, and after ``#`` its section, in the form
            of the book's addresses.
    """

    title: str
    fix: str
    chapter: str


CAUSES: dict[str, Cause] = {
    "lr_too_high": Cause(
        "the learning rate is too high",
        "Divide the learning rate by 10, or find it with a learning rate range test.",
        "schedulers#know-the-speed-limit",
    ),
    "init_too_large": Cause(
        "some weights start far too large",
        "Initialize the named parameter, and all that are drawn like it: "
        "nn.init.xavier_normal_(weight), or "
        'nn.init.kaiming_normal_(weight, nonlinearity="relu") before a ReLU.',
        "initialization#thirty-layers-and-one-line",
    ),
    "vanishing": Cause(
        "the gradient vanishes on its way to the first layers",
        "Use nn.ReLU() between layers, with nn.init.kaiming_normal_(weight, "
        'nonlinearity="relu").',
        "activations#the-slope-decides",
    ),
    "saturated_activation": Cause(
        "a sigmoid or tanh sits on its flat ends",
        "Make what enters the activation smaller: smaller weights or biases before "
        "it, scaled inputs, or normalization.",
        "activations#saturated-or-dead",
    ),
    "dead_relu": Cause(
        "ReLU units never fire, so nothing before them gets a gradient",
        "Use nn.Softplus() or nothing at the output; inside, nn.LeakyReLU(0.1), "
        "nn.init.zeros_(bias) and He initialization.",
        "activations#saturated-or-dead",
    ),
    "recurrent_explosion": Cause(
        "the same weights, applied at every step, blow the signal up",
        "Use nn.GRU or nn.LSTM, or tanh in place of ReLU in the recurrence. A shorter "
        "sequence and clipping before each step soften it: "
        "nn.utils.clip_grad_norm_(model.parameters(), 1.0).",
        "recurrent#measure-the-slope",
    ),
    "unnormalized_input": Cause(
        "the inputs are far from mean 0 and variance 1",
        "Standardize every input feature: x = (x - mean) / std (pixels: x / 255).",
        "causes#data",
    ),
    "unscaled_target": Cause(
        "the targets are far from mean 0 and variance 1",
        "Train on y = (y - mean) / std, and predict model(x) * std + mean.",
        "causes#data",
    ),
    "loss_numerics": Cause(
        "an operation leaves the range where it is defined",
        "Use the fused, stable form (cross entropy on logits, logsigmoid), and put "
        "a small eps inside sqrt, log and divisions.",
        "causes#a-trap-forward-fine-gradient-nan",
    ),
    "bad_data": Cause(
        "some samples hold values that no model can fit",
        "Look at the named batch; drop, impute or mask what is broken there, for "
        "example with keep = x.isfinite().all(1). Token ids are always finite: read "
        "the text that they stand for.",
        "causes#data",
    ),
    "missing_zero_grad": Cause(
        "gradients of earlier steps are added to the new ones",
        "Call optimizer.zero_grad() before every backward pass.",
        "field_guide#whatever-you-see",
    ),
    "sum_reduction": Cause(
        "the loss is a sum over the batch, so its gradient grows with the batch",
        'Use reduction="mean", or divide the learning rate by the batch size.',
        "field_guide#it-learns-but-not-what-it-should",
    ),
    "deep_no_skip_or_norm": Cause(
        "many layers in a row have neither normalization nor skip connections",
        "Normalize after every layer (nn.LayerNorm or nn.BatchNorm1d after nn.Linear, "
        "nn.BatchNorm2d after nn.Conv2d), or add residual connections: "
        "x = x + block(x).",
        "regularization#what-skips-bound",
    ),
    "batchnorm_misuse": Cause(
        "batch norm works with statistics that do not describe the data",
        "Use a larger batch, or nn.LayerNorm, or nn.GroupNorm with several channels a "
        "group.",
        "regularization#what-batch-normalization-is-good-for",
    ),
    "fp16_overflow": Cause(
        "values leave the range of float16",
        "Use dtype=torch.bfloat16 or float32. In float16 keep float32 weights, an eps "
        "of at least 1e-4 and masks of torch.finfo(dtype).min; torch.amp.GradScaler "
        "helps gradients only, not what overflows in the forward pass.",
        "precision#find-where-the-forward-pass-overflows",
    ),
    "fp16_underflow": Cause(
        "gradients below the smallest number of float16 become zero",
        "Scale the loss: scaler.scale(loss).backward(); scaler.step(optimizer); "
        "scaler.update(), with scaler = torch.amp.GradScaler(). Or use "
        "dtype=torch.bfloat16.",
        "precision#see-which-numbers-fit",
    ),
    "clip_misplaced": Cause(
        "clipping does not act on the gradient that the optimizer uses",
        "loss.backward(); clip_grad_norm_(model.parameters(), bound); "
        "optimizer.step(). With a scaler, scaler.unscale_(optimizer) before the clip.",
        "clipping#a-trap-ten-ways-in-which-clipping-is-silently-broken",
    ),
    "warmup_missing": Cause(
        "the full learning rate comes before the network can bear it",
        "Raise the learning rate over the first steps: "
        "LambdaLR(optimizer, lambda step: min(1, (step + 1) / 500)).",
        "schedulers#warm-up-where-it-helps",
    ),
    "optimizer_misconfigured": Cause(
        "the optimizer does not update what it should, or not as it should",
        "Build the optimizer from model.parameters() after the model is final, "
        "and start from its default settings.",
        "field_guide#a-flat-line",
    ),
    "detached_graph": Cause(
        "the graph is cut between the loss and these parameters",
        "Remove no_grad(), .detach(), .item(), argmax or rounding from the path to "
        "the loss (or pass the slope on: x + (x.round() - x).detach()).",
        "field_guide#a-flat-line",
    ),
    "learning_rate_zero": Cause(
        "the learning rate is zero, or becomes so within a few updates",
        'for group in optimizer.param_groups: group["lr"] = 1e-3, after every '
        "load_state_dict; call scheduler.step() as often as its length says, once an "
        "epoch or once an update.",
        "field_guide#a-flat-line",
    ),
    "zero_grad_misplaced": Cause(
        "gradients are cleared before the optimizer has used them",
        "optimizer.zero_grad(); loss.backward(); optimizer.step(), in this order; when "
        "accumulating, clear only after the step.",
        "field_guide#a-flat-line",
    ),
    "frozen_parameters": Cause(
        "parameters that should learn want no gradient",
        "for p in model.parameters(): p.requires_grad_(True), before the optimizer is "
        "built.",
        "field_guide#a-flat-line",
    ),
    "clip_too_tight": Cause(
        "the clipping bound is far below the usual gradient norm",
        "Print the norm that clip_grad_norm_ returns for 100 steps, and clip at its "
        "90th percentile.",
        "clipping#choose-the-threshold-from-your-own-run",
    ),
    "low_precision_updates": Cause(
        "updates are smaller than the rounding of the weights",
        "Keep weights in float32 and compute in torch.autocast(device, "
        "dtype=torch.bfloat16).",
        "precision#count-the-updates-that-vanish",
    ),
    "attention_logits_grow": Cause(
        "attention scores grow until the softmax is one-hot",
        "Normalize queries and keys: q, k = F.layer_norm(q, q.shape[-1:]), "
        "F.layer_norm(k, k.shape[-1:]), before q @ k.",
        "transformers#compare-the-cures",
    ),
    "objective_out_of_reach": Cause(
        "the objective cannot be reached: a scalar, or the loss itself, runs away",
        "Bound it: log_alpha.clamp(-5, 2).exp(); set a target that can be reached "
        "(entropy below log(actions)).",
        "elsewhere#a-trap-a-spread-without-bounds-a-target-that-moves",
    ),
    "loss_terms_unbalanced": Cause(
        "one term of the loss outweighs the others",
        "Weigh the terms so that their gradients have one size: loss = a / a.detach() "
        "+ b / b.detach(), or fixed weights.",
        "field_guide#it-learns-but-not-what-it-should",
    ),
    "shape_mismatch": Cause(
        "output and target have different shapes, so each is compared with every other",
        "Give both one shape: loss_fn(model(x).squeeze(-1), y), or y.unsqueeze(-1).",
        "field_guide#it-learns-but-not-what-it-should",
    ),
    "wrong_axis": Cause(
        "an operation runs over the wrong axis",
        "Print the shapes of one batch and name the axis: batch_first=True for "
        "(batch, time, feature), softmax(dim=...) over what competes.",
        "field_guide#it-learns-but-not-what-it-should",
    ),
    "labels_misaligned": Cause(
        "targets do not belong to the inputs they are paired with",
        "Print some pairs; shuffle inputs and targets by one permutation, and shift "
        "next-token labels exactly once.",
        "field_guide#it-learns-but-not-what-it-should",
    ),
    "target_leak": Cause(
        "the answer is visible in the input",
        "Hide it: a causal mask, logits[:, :-1] against tokens[:, 1:], no column "
        "that is computed from the target.",
        "field_guide#it-learns-but-not-what-it-should",
    ),
    "padding_in_loss": Cause(
        "the loss counts the fill values at the ends of sequences",
        "F.cross_entropy(logits, targets, ignore_index=pad), or multiply the loss by "
        "the mask and divide by mask.sum().",
        "field_guide#it-learns-but-not-what-it-should",
    ),
    "unshuffled_data": Cause(
        "the samples come sorted, so neighboring batches ask for different answers",
        "DataLoader(data, batch_size, shuffle=True).",
        "field_guide#a-slow-rise-or-a-loss-that-never-settles",
    ),
    "mean_of_means": Cause(
        "means over parts of different size are averaged as if the parts were equal",
        'Sum the losses of all parts, reduction="sum", and divide by the number of '
        "targets in all of them.",
        "workers#one-batch-three-models",
    ),
    "representation_collapse": Cause(
        "all inputs get the same output, which satisfies the loss",
        "Stop the gradient on one side (target.detach()), keep a predictor or negative "
        "pairs, or add a loss on the variance over the batch.",
        "field_guide#it-learns-but-not-what-it-should",
    ),
    "resume_state_lost": Cause(
        "a run went on from a checkpoint without all of its state",
        "Save and load the model, the optimizer, the scheduler, the scaler and the "
        "random state together; compare the first loss with the last one before.",
        "schedulers#a-trap-the-schedule-that-resumes-wrong",
    ),
    "zero_advantage": Cause(
        "all answers of a group get the same reward, so nothing is learned from them",
        "Use prompts that are solved sometimes (neither never nor always), more "
        "answers a prompt, or a reward with more levels.",
        "field_guide#by-what-you-train",
    ),
    "labels_masked": Cause(
        "no label takes part in the loss",
        "Print the labels of one batch: some must differ from -100. Look at the chat "
        "template, the truncation length and the loss mask.",
        "field_guide#nan-or-inf-at-step-0",
    ),
    "hardware_half_precision_bug": Cause(
        "the graphics card computes wrong numbers in half precision",
        "Switch automatic mixed precision off (amp=False), as on cards of the GTX 16 "
        "series, or use another card.",
        "field_guide#it-learns-but-not-what-it-should",
    ),
    "software_version_bug": Cause(
        "a version of a library loses or spoils the gradient",
        "Install the versions that the authors of the script name, then the latest "
        "ones, and compare the first ten steps.",
        "field_guide#it-learns-but-not-what-it-should",
    ),
    "healthy": Cause(
        "no test found anything broken",
        "Nothing to fix.",
        "field_guide#let-the-library-ask-the-questions",
    ),
}
