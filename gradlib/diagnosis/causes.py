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
        "Initialize the named parameter: nn.init.xavier_normal_(weight), or "
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
        "Use nn.GRU or nn.LSTM, shorten the sequence, or clip before each step: "
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
        "example with keep = x.isfinite().all(1).",
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
