"""A language model of characters: a GRU learns to tell the next character of a text, then writes some of its own.

python examples/character_gru.py --text book.txt

expected: loss 1.54 nats a character on the last tenth of the bundled text after 10 epochs
"""

import argparse
from pathlib import Path

import numpy as np

import graphc as gx
from graphc import data, datasets, nn, optim

LENGTH, WIDTH = 64, 128
BATCH = gx.dim("batch", max=64)
x, y = gx.u8[BATCH, LENGTH], gx.u8[BATCH, LENGTH]


class CharacterModel(nn.Module):
    """Numbers of characters [n, length] and a state -> scores of the next ones [n, length, characters] and a state."""

    def __init__(self, characters):
        super().__init__()
        self.characters = nn.Embedding(characters, WIDTH)
        self.recurrent = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.scores = nn.Linear(WIDTH, characters)

    def forward(self, x, state=None):
        outputs, state = self.recurrent(self.characters(x), state)
        return self.scores(outputs), state


def loss(output, y):
    """Nats a character."""
    scores, _ = output
    return gx.cross_entropy(scores.flatten(0, 1), y.flatten())


def windows(text, alphabet):
    """Pieces of a text and the same one character on, as numbers."""
    numbers = np.array([alphabet.index(character) for character in text], np.uint8)
    count = (len(numbers) - 1) // LENGTH * LENGTH
    return data.TensorDataset(numbers[:count].reshape(-1, LENGTH), numbers[1 : count + 1].reshape(-1, LENGTH))


def written(net, alphabet, count, temperature=0.7):
    """Text of the model: each character drawn from what it expects after those before."""
    character, state = gx.input("character", gx.u8[1, 1]), gx.input("state", gx.f32[1, 1, WIDTH])
    scores, after = net(character, state)
    step = gx.function([character, state], [gx.softmax(scores.flatten() / temperature), after])
    random, memory = np.random.default_rng(1), np.zeros((1, 1, WIDTH), np.float32)
    numbers = [alphabet.index("\n")]
    for _ in range(count):
        chances, memory = step(np.array([[numbers[-1]]], np.uint8), memory)
        numbers.append(random.choice(len(alphabet), p=chances / chances.sum()))
    return "".join(alphabet[number] for number in numbers)


def main(text=None, epochs=10):
    gx.manual_seed(1)
    text = datasets.genesis() if text is None else Path(text).read_text(encoding="utf-8")
    alphabet, end = sorted(set(text)), len(text) * 9 // 10
    net = CharacterModel(len(alphabet))
    step = gx.train_step(net, loss, optim.Adam(net.parameters(), lr=2e-3), x=x, y=y)
    test = gx.eval_step(net, loss, x=x, y=y)
    loader = data.DataLoader(windows(text[:end], alphabet), 32, shuffle=True, seed=1)
    test_loader = data.DataLoader(windows(text[end:], alphabet), 64)
    history = gx.fit(step, loader, epochs, validate=(test, test_loader), verbose=True)
    print(written(net, alphabet, 300))
    return history["val_loss"][-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--text", help="a file to learn from instead of the bundled text")
    parser.add_argument("--epochs", type=int)
    main(**vars(parser.parse_args()))
