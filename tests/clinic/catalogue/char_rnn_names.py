"""A char RNN that tells the language of names: it is built a second time after its
optimizer. The loss is big, goes up and down, and does not diminish."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = set()
SOURCE = "https://github.com/spro/practical-pytorch/issues/9"
FIX = "make the optimizer after the model that is trained"

LETTERS = 20
LANGUAGES = 6


class RNN(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super().__init__()
        self.hidden_size = hidden_size
        self.i2h = nn.Linear(input_size + hidden_size, hidden_size)
        self.i2o = nn.Linear(input_size + hidden_size, output_size)

    def forward(self, line):
        hidden = line.new_zeros(len(line), self.hidden_size)
        for letter in line.unbind(1):
            combined = torch.cat((letter, hidden), 1)
            hidden = torch.tanh(self.i2h(combined))
            output = self.i2o(combined)
        return F.log_softmax(output, dim=1)


def _names():
    often = torch.softmax(1.2 * torch.randn(LANGUAGES, LETTERS), dim=1)
    batches = []
    for _ in range(150):
        language = torch.randint(LANGUAGES, (32,))
        line = torch.multinomial(often[language], 8, replacement=True)
        line = F.one_hot(line, LETTERS).float()
        batches.append((line, language))
    return batches


def make():
    torch.manual_seed(909)
    rnn = RNN(LETTERS, 64, LANGUAGES)
    optimizer = torch.optim.SGD(rnn.parameters(), lr=0.05, momentum=0.9)
    batches = _names()
    rnn = RNN(LETTERS, 64, LANGUAGES)
    return dict(model=rnn, optimizer=optimizer, loss_fn=F.nll_loss, batches=batches)


def make_fixed():
    torch.manual_seed(909)
    rnn = RNN(LETTERS, 64, LANGUAGES)
    batches = _names()
    rnn = RNN(LETTERS, 64, LANGUAGES)
    optimizer = torch.optim.SGD(rnn.parameters(), lr=0.05, momentum=0.9)
    return dict(model=rnn, optimizer=optimizer, loss_fn=F.nll_loss, batches=batches)
