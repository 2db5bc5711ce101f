"""The causes that a diagnosis can name: title, fix and chapter of each."""

from dataclasses import dataclass

BOOK = "https://your_org.github.io/exploding-gradients"


def address_of(chapter: str) -> str:
    """Where a chapter can be read, also by those who installed the library only.

    Example:
        >>> address_of("causes").removeprefix(BOOK)
        '/chapters/causes.html'
    """
    return f"{BOOK}/chapters/{chapter}.html"


@dataclass(frozen=True)
class Cause:
    """One thing that breaks training: its plain name, its cure, where to read on."""

    title: str
    fix: str
    chapter: str


CAUSES: dict[str, Cause] = {
    "lr_too_high": Cause(
        "the learning rate is too high",
        "Divide the learning rate by 10, or find it with a learning rate range test.",
        "schedulers",
    ),
    "init_too_large": Cause(
        "some weights start far too large",
        "Initialize the named parameter, and all that are drawn like it: "
        "nn.init.xavier_normal_(weight), or "
        'nn.init.kaiming_normal_(weight, nonlinearity="relu") before a ReLU.',
        "initialization",
    ),
    "vanishing": Cause(
        "the gradient vanishes on its way to the first layers",
        "Use nn.ReLU() between layers, with nn.init.kaiming_normal_(weight, "
        'nonlinearity="relu").',
        "activations",
    ),
    "saturated_activation": Cause(
        "a sigmoid or tanh sits on its flat ends",
        "Make what enters the activation smaller: smaller weights or biases before "
        "it, scaled inputs, or normalization.",
        "activations",
    ),
    "dead_relu": Cause(
        "ReLU units never fire, so nothing before them gets a gradient",
        "Use nn.Softplus() or nothing at the output; inside, nn.LeakyReLU(0.1), "
        "nn.init.zeros_(bias) and He initialization.",
        "activations",
    ),
    "recurrent_explosion": Cause(
        "the same weights, applied at every step, blow the signal up",
        "Use nn.GRU or nn.LSTM, or tanh in place of ReLU in the recurrence. A shorter "
        "sequence and clipping before each step soften it: "
        "nn.utils.clip_grad_norm_(model.parameters(), 1.0).",
        "causes",
    ),
    "unnormalized_input": Cause(
        "the inputs are far from mean 0 and variance 1",
        "Standardize every input feature: x = (x - mean) / std (pixels: x / 255).",
        "causes",
    ),
    "unscaled_target": Cause(
        "the targets are far from mean 0 and variance 1",
        "Train on y = (y - mean) / std, and predict model(x) * std + mean.",
        "causes",
    ),
    "loss_numerics": Cause(
        "an operation leaves the range where it is defined",
        "Use the fused, stable form (cross entropy on logits, logsigmoid), and put "
        "a small eps inside sqrt, log and divisions.",
        "causes",
    ),
    "bad_data": Cause(
        "some samples hold values that no model can fit",
        "Look at the named batch; drop, impute or mask what is broken there, for "
        "example with keep = x.isfinite().all(1). Token ids are always finite: read "
        "the text that they stand for.",
        "field_guide",
    ),
    "missing_zero_grad": Cause(
        "gradients of earlier steps are added to the new ones",
        "Call optimizer.zero_grad() before every backward pass.",
        "field_guide",
    ),
    "sum_reduction": Cause(
        "the loss is a sum over the batch, so its gradient grows with the batch",
        'Use reduction="mean", or divide the learning rate by the batch size.',
        "causes",
    ),
    "deep_no_skip_or_norm": Cause(
        "many layers in a row have neither normalization nor skip connections",
        "Normalize after every layer (nn.LayerNorm, nn.BatchNorm2d), or add residual "
        "connections: x = x + block(x).",
        "regularization",
    ),
    "batchnorm_misuse": Cause(
        "batch norm works with statistics that do not describe the data",
        "Use a larger batch, or nn.GroupNorm, nn.LayerNorm or nn.InstanceNorm.",
        "regularization",
    ),
    "fp16_overflow": Cause(
        "values leave the range of float16",
        "Use dtype=torch.bfloat16 or float32; in float16 keep float32 weights, "
        "torch.amp.GradScaler and an eps of at least 1e-4.",
        "field_guide",
    ),
    "fp16_underflow": Cause(
        "gradients below the smallest number of float16 become zero",
        "Scale the loss: scaler.scale(loss).backward(); scaler.step(optimizer); "
        "scaler.update(), with scaler = torch.amp.GradScaler(). Or use "
        "dtype=torch.bfloat16.",
        "field_guide",
    ),
    "clip_misplaced": Cause(
        "clipping does not act on the gradient that the optimizer uses",
        "loss.backward(); clip_grad_norm_(model.parameters(), bound); "
        "optimizer.step(). With a scaler, scaler.unscale_(optimizer) before the clip.",
        "clipping",
    ),
    "warmup_missing": Cause(
        "the full learning rate comes before the network can bear it",
        "Raise the learning rate over the first steps: "
        "LambdaLR(optimizer, lambda step: min(1, (step + 1) / 500)).",
        "schedulers",
    ),
    "optimizer_misconfigured": Cause(
        "the optimizer does not update what it should, or not as it should",
        "Build the optimizer from model.parameters() after the model is final, "
        "and start from its default settings.",
        "field_guide",
    ),
    "detached_graph": Cause(
        "the graph is cut between the loss and these parameters",
        "Remove no_grad(), .detach(), .item(), argmax or rounding from the path to "
        "the loss (or pass the slope on: x + (x.round() - x).detach()).",
        "field_guide",
    ),
    "learning_rate_zero": Cause(
        "the learning rate is zero, or becomes so within a few updates",
        'for group in optimizer.param_groups: group["lr"] = 1e-3, after every '
        "load_state_dict; call scheduler.step() as often as its length says, once an "
        "epoch or once an update.",
        "schedulers",
    ),
    "zero_grad_misplaced": Cause(
        "gradients are cleared before the optimizer has used them",
        "optimizer.zero_grad(); loss.backward(); optimizer.step(), in this order; when "
        "accumulating, clear only after the step.",
        "field_guide",
    ),
    "frozen_parameters": Cause(
        "parameters that should learn want no gradient",
        "for p in model.parameters(): p.requires_grad_(True), before the optimizer is "
        "built.",
        "field_guide",
    ),
    "clip_too_tight": Cause(
        "the clipping bound is far below the usual gradient norm",
        "Print the norm that clip_grad_norm_ returns for 100 steps, and clip at its "
        "90th percentile.",
        "clipping",
    ),
    "low_precision_updates": Cause(
        "updates are smaller than the rounding of the weights",
        "Keep weights in float32 and compute in torch.autocast(device, "
        "dtype=torch.bfloat16).",
        "field_guide",
    ),
    "attention_logits_grow": Cause(
        "attention scores grow until the softmax is one-hot",
        "Normalize queries and keys: q, k = F.layer_norm(q, q.shape[-1:]), "
        "F.layer_norm(k, k.shape[-1:]), before q @ k.",
        "causes",
    ),
    "objective_out_of_reach": Cause(
        "a free scalar runs away, since its objective cannot be reached",
        "Bound it: log_alpha.clamp(-5, 2).exp(); set a target that can be reached "
        "(entropy below log(actions)).",
        "field_guide",
    ),
    "loss_terms_unbalanced": Cause(
        "one term of the loss outweighs the others",
        "Weigh the terms so that their gradients have one size: loss = a / a.detach() "
        "+ b / b.detach(), or fixed weights.",
        "field_guide",
    ),
    "shape_mismatch": Cause(
        "output and target have different shapes, so each is compared with every other",
        "Give both one shape: loss_fn(model(x).squeeze(-1), y), or y.unsqueeze(-1).",
        "field_guide",
    ),
    "wrong_axis": Cause(
        "an operation runs over the wrong axis",
        "Print the shapes of one batch and name the axis: batch_first=True for "
        "(batch, time, feature), softmax(dim=...) over what competes.",
        "field_guide",
    ),
    "labels_misaligned": Cause(
        "targets do not belong to the inputs they are paired with",
        "Print some pairs; shuffle inputs and targets by one permutation, and shift "
        "next-token labels exactly once.",
        "field_guide",
    ),
    "target_leak": Cause(
        "the answer is visible in the input",
        "Hide it: a causal mask, logits[:, :-1] against tokens[:, 1:], no column "
        "that is computed from the target.",
        "field_guide",
    ),
    "padding_in_loss": Cause(
        "the loss counts the fill values at the ends of sequences",
        "F.cross_entropy(logits, targets, ignore_index=pad), or multiply the loss by "
        "the mask and divide by mask.sum().",
        "field_guide",
    ),
    "unshuffled_data": Cause(
        "the samples come sorted, so neighboring batches ask for different answers",
        "DataLoader(data, batch_size, shuffle=True).",
        "field_guide",
    ),
    "mean_of_means": Cause(
        "means over parts of different size are averaged as if the parts were equal",
        'Sum the losses of all parts, reduction="sum", and divide by the number of '
        "targets in all of them.",
        "field_guide",
    ),
    "representation_collapse": Cause(
        "all inputs get the same output, which satisfies the loss",
        "Stop the gradient on one side (target.detach()), keep a predictor or negative "
        "pairs, or add a loss on the variance over the batch.",
        "field_guide",
    ),
    "resume_state_lost": Cause(
        "a run went on from a checkpoint without all of its state",
        "Save and load the model, the optimizer, the scheduler, the scaler and the "
        "random state together; compare the first loss with the last one before.",
        "field_guide",
    ),
    "zero_advantage": Cause(
        "all answers of a group get the same reward, so nothing is learned from them",
        "Use prompts that are solved sometimes (neither never nor always), more "
        "answers a prompt, or a reward with more levels.",
        "field_guide",
    ),
    "labels_masked": Cause(
        "no label takes part in the loss",
        "Print the labels of one batch: some must differ from -100. Look at the chat "
        "template, the truncation length and the loss mask.",
        "field_guide",
    ),
    "hardware_half_precision_bug": Cause(
        "the graphics card computes wrong numbers in half precision",
        "Switch automatic mixed precision off (amp=False), as on cards of the GTX 16 "
        "series, or use another card.",
        "field_guide",
    ),
    "software_version_bug": Cause(
        "a version of a library loses or spoils the gradient",
        "Install the versions that the authors of the script name, then the latest "
        "ones, and compare the first ten steps.",
        "field_guide",
    ),
    "healthy": Cause("nothing is broken", "Nothing to fix.", "field_guide"),
}
