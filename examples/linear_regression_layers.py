"""Linear regression with layers: nn.Linear, MSELoss, SGD, and one native call an epoch.

expected: w 2.00 and -3.40, b 4.20, each within 0.01
"""

import numpy as np

import graphc as gx
from graphc import data, nn, optim

gx.manual_seed(1)
random = np.random.default_rng(1)
features = random.standard_normal((1000, 2), np.float32)
labels = features @ np.array([[2.0], [-3.4]], np.float32) + np.float32(4.2)
labels += 0.01 * random.standard_normal((1000, 1), np.float32)

net = nn.Sequential(nn.Linear(2, 1))
optimizer = optim.SGD(net.parameters(), lr=0.03)
step = gx.train_step(net, nn.MSELoss(), optimizer, x=gx.f32["batch", 2], y=gx.f32["batch", 1])


def main(epochs=3):
    loader = data.DataLoader(data.TensorDataset(features, labels), batch_size=10, shuffle=True, seed=1)
    for epoch in range(epochs):
        print(f"epoch {epoch + 1}, loss {step.epoch(loader).loss:.6f}")
    w, b = net[0].weight.numpy().ravel(), net[0].bias.numpy()
    print("w", w, "b", b)
    return [*w, *b]


if __name__ == "__main__":
    main()
