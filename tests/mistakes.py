"""Mistakes that people make, each with what its error must name.

A mistake is a title, the words that its error has to contain, and a program whose wrong line ends in `# here`. The
programs go on from START.
"""

from __future__ import annotations

from dataclasses import dataclass

START = """\
import math
import numpy as np
import graphc as gx
from graphc import data, nn, optim
from graphc import functional as F
x, image = gx.input("x", gx.f32["batch", 4]), gx.input("image", gx.f32["batch", 1, 28, 28])
labels = gx.input("labels", gx.i64["batch"])
w = gx.parameter("w", np.ones((3, 4), np.float32))
rows, classes = np.linspace(-1, 2, 24, dtype=np.float32).reshape(6, 4), np.arange(6) % 3
X, Y = gx.f32["batch", 4], gx.i64["batch"]
def trained(net, loss=nn.CrossEntropyLoss(), x=X, y=Y, lr=0.1, **settings):
    return gx.train_step(net, loss, optim.SGD(net.parameters(), lr=lr), x=x, y=y, **settings)
"""


@dataclass(frozen=True)
class Mistake:
    title: str
    words: tuple[str, ...]
    program: str


TEXT = """
## shapes: a weight that is not transposed | f32[batch,4] | f32[3,4] | x @ w.T
x @ w  # here

## shapes: inner sizes | f32[batch,4] | f32[5,2] | inner sizes 4 and 5
x @ gx.zeros((5, 2))  # here

## shapes: broadcasting | f32[batch,4] | f32[5] | 4 in one and 5 in the other
x + gx.zeros(5)  # here

## shapes: a row for each sample without its axis | f32[batch,4] | f32[batch] | x.unsqueeze(-1)
x / x.sum(1)  # here

## shapes: two dims | batch in one and n in the other
x + gx.input("other", gx.f32["n", 4])  # here

## shapes: no flatten before a linear layer | Linear(784 -> 10) | 28 features | nn.Flatten() | 1*28*28
nn.Linear(784, 10)(image)  # here

## shapes: a linear layer of another size | fc2 = Linear(255 -> 10) | 256 features | declared in
class Net(nn.Module):
    def __init__(self):
        self.fc1, self.fc2 = nn.Linear(4, 256), nn.Linear(255, 10)
    def forward(self, x):
        h = gx.relu(self.fc1(x))
        return self.fc2(h)  # here
gx.predict_step(Net(), x=X)

## shapes: channels last | Conv2d(3 -> 6) | 28 channels | x.permute(0, 3, 1, 2)
nn.Conv2d(3, 6, 5)(gx.input("picture", gx.f32["batch", 28, 28, 3]))  # here

## shapes: a convolution larger than its input | f32[batch,1,28,28] | 30 places | which is 28
F.conv2d(image, gx.zeros((6, 1, 30, 30)))  # here

## shapes: reshape | 4*batch elements | [5, 5] has 25
x.reshape(5, 5)  # here

## shapes: an axis that is not there | axis 2 | 2 axes
x.sum(axis=2)  # here

## shapes: concatenation | f32[batch,4] | f32[2,5]
gx.concat([x, gx.zeros((2, 5))], 0)  # here

## shapes: einsum | 'ij,kj->ik' | 2 operands, got 3
gx.einsum("ij,kj->ik", x, x, x)  # here

## shapes: a loss of many numbers | f32[batch,4] | loss.mean()
gx.grad(x * x, x)  # here

## shapes: target and output | f32[batch,1] | f32[batch] | the shapes differ
nn.MSELoss()(x.sum(1, keepdim=True), x.sum(1))  # here

## dtypes: class numbers as floats | f32[batch,4] | f32[batch] | gx.i64['batch']
nn.CrossEntropyLoss()(x, x.sum(1))  # here

## dtypes: an index of floats | integer indices | f32[batch,4] | index.long()
nn.Embedding(10, 4)(x)  # here

## dtypes: bits of floats | f32 is not one of i32, i64, u8 | x.long()
x & 3  # here

## dtypes: doubles for floats | f32[batch,4] | float64 | array.astype(np.float32)
step = gx.predict_step(nn.Linear(4, 3), x=X)
step(rows.astype(np.float64))  # here

## dtypes: floats for class numbers | i64[batch] | float32
step = trained(nn.Linear(4, 3))
step(rows, classes.astype(np.float32))  # here

## dtypes: text in a graph | 'four' | <class 'str'>|str
x + "four"  # here

## names: a layer | 'Liner' | did you mean Linear
nn.Liner(4, 3)  # here

## names: an optimizer | 'Adm' | did you mean Adam
optim.Adm(nn.Linear(4, 3).parameters())  # here

## names: an import | 'Conv2D' | did you mean Conv2d
from graphc.nn import Conv2D  # here

## names: a function | 'sofmax' | did you mean softmax
gx.sofmax(x)  # here

## names: a method | 'Tensor' | 'rehsape' | did you mean reshape
x.rehsape(-1)  # here

## names: a dtype | 'float32' | did you mean f32
gx.float32[3]  # here

## names: a scalar of a step | 'lrr' | lr | did you mean lr
step = trained(nn.Linear(4, 3))
step.set(lrr=0.3)  # here

## names: a metric | 'acuracy' | did you mean accuracy
gx.eval_step(nn.Linear(4, 3), nn.CrossEntropyLoss(), x=X, y=Y, metrics=["acuracy"])  # here

## names: a setting of an optimizer | 'momentun' | did you mean momentum
optim.SGD(nn.Linear(4, 3).parameters(), lr=0.1, momentun=0.9)  # here

## names: a setting of a layer | 'baias' | did you mean bias
nn.Linear(4, 3, baias=False)  # here

## names: a choice | 'avg' | 'mean'
nn.MSELoss(reduction="avg")  # here

## names: a part of a module | Net | 'fcc' | did you mean fc
class Net(nn.Module):
    def __init__(self):
        self.fc = nn.Linear(4, 3)
    def forward(self, x):
        return self.fcc(x)  # here
gx.predict_step(Net(), x=X)

## names: a method of a step | 'epoh' | did you mean epoch
step = trained(nn.Linear(4, 3))
step.epoh(3)  # here

## names: a result | 'Record' | 'acuracy' | did you mean accuracy
record = trained(nn.Linear(4, 3), metrics=["accuracy"])(rows, classes)
record.acuracy  # here

## ranges: an index of an axis | index 4 | -4..3 | axis 1
x[:, 4]  # here

## ranges: a label | labels must lie in 0..2 | got 3 at index 3
step = trained(nn.Linear(4, 3))
step(rows, np.array([0, 1, 2, 3, 0, 1]))  # here

## ranges: a label in an epoch | labels must lie in 0..2 | got -1
step = trained(nn.Linear(4, 3))
loader = data.DataLoader(data.TensorDataset(rows, classes - 1), 2)
step.epoch(loader)  # here

## ranges: a row of a table | got 7 at index 1 | 0..4
table = nn.Embedding(5, 2)
look_up = gx.predict_step(table, x=gx.i64["batch"])
look_up(np.array([1, 7]))  # here

## ranges: an index inside of a fused kernel | indices must lie in -3..2 | got 5 at index 0
chosen = gx.function([labels], gx.tanh(w[labels] * 2).sum())  # declared
chosen(np.array([5, 1]))  # here

## ranges: a probability | p is 1.5 | from 0 to 1
nn.Dropout(1.5)  # here

## ranges: a learning rate | lr | -0.1
optim.SGD(nn.Linear(4, 3).parameters(), lr=-0.1)  # here

## ranges: a batch | batch is 2000 | 1..1024 | max=2000
step = gx.predict_step(nn.Linear(4, 3), x=X)
step(np.zeros((2000, 4), np.float32))  # here

## control flow: if | bool[] is symbolic | gx.where | gx.cond
if x.sum() > 0:  # here
    print("positive")

## control flow: if in a step | bool[] is symbolic | gx.where
@gx.step
def step(x: gx.f32["batch", 4]):
    if x.mean() > 0:  # here
        return x
    return -x

## control flow: while | bool[] is symbolic | gx.scan
while x.sum() < 3:  # here
    x = x + 1

## control flow: and | is symbolic | a & b
y = x.sum() > 0 and x.sum() < 3  # here

## control flow: a chain of comparisons | (0 < x.sum()) & (x.sum() < 3)
y = 0 < x.sum() < 3  # here

## control flow: the larger one | is symbolic | gx.maximum
max(x.sum(), 0)  # here

## control flow: rows one by one | f32[batch,4] | batch is not known | gx.scan
for row in x:  # here
    print(row)

## control flow: a range of a dim | batch | gx.scan
for number in range(x.shape[0]):  # here
    print(number)

## control flow: a length | f32[batch,4] is symbolic | x.shape[0]
len(x)  # here

## control flow: a number of Python | float() | f32[] is symbolic | x.sum().float()
float(x.sum())  # here

## control flow: a whole number of Python | int() | f32[] is symbolic | x.sum().int()
int(x.sum())  # here

## control flow: a function of Python | f32[] is symbolic | gx.exp instead of math.exp
math.exp(x.sum())  # here

## control flow: a function of NumPy | np.linalg.norm | f32[batch,4] is symbolic | gx.norm
np.linalg.norm(x)  # here

## control flow: a function of NumPy that is not here | np.convolve | f32[batch,4] is symbolic | no gx.convolve
np.convolve(x, x)  # here

## control flow: an index of a list | f32[] is symbolic | gx.stack
[1, 2, 3][x.sum()]  # here

## control flow: changed in place | f32[batch,4] cannot be changed in place | gx.index_put
x[0] = 1  # here

## NaN forward: log of zero in a loss | loss is not finite | log(0) is -inf at index | forward pass | relu
def loss(output, target):
    likely = gx.relu(output)
    return -(gx.one_hot(target, 3) * gx.log(likely)).sum(1).mean()  # here
net = nn.Linear(4, 3)
step = trained(net, loss, nan="raise")
net.weight.copy_(np.full((3, 4), -1, np.float32))
step(rows + 2, classes)

## NaN forward: root of a negative number, in an epoch | sqrt(-1) is nan at index (0, 0) | input x | step 0
@gx.step
def step(x: gx.f32["batch", 4]):
    return gx.sqrt(x).mean()  # here
with gx.debug():
    step.epoch(data.DataLoader(data.TensorDataset(rows), 2))

## NaN forward: division by zero | div(0, 0) is nan at index 0 | forward pass
share = gx.function([x], x.sum(1) / gx.absolute(x).sum(1))  # here
with gx.debug(check="reference"):
    share(np.zeros((2, 4), np.float32))

## NaN forward: overflow | exp(200) is inf at index (0, 0) | input x
grown = gx.function([x], gx.exp(x).sum(), nan="raise")  # here
grown(np.full((2, 4), 200, np.float32))

## NaN forward: in the data | input x holds nan at index (1, 2)
step = trained(nn.Linear(4, 3), nan="raise")
spoiled = rows.copy()
spoiled[1, 2] = math.nan
step(spoiled, classes)  # here

## NaN forward: exploding learning rate | is inf at index | has grown to | lr=1e+06
def squared(output, target):
    return ((output - target) ** 2).mean()  # here
step = trained(nn.Linear(4, 3), squared, y=gx.f32["batch", 3], lr=1e6)
with gx.debug():
    for _ in range(50):
        step(rows, rows[:, :3])

## NaN backward: a naive root | div(0, 0) is nan at index (0, 2) | backward pass | its gradient
scale = gx.parameter("scale", np.ones(4, np.float32))
@gx.step
def step(x: gx.f32["batch", 4]):
    loss = ((x > 0).float() * gx.sqrt(x * scale)).sum()  # here
    loss.backward()
    with gx.no_grad():
        scale.copy_(scale - 0.1 * scale.grad)
    return loss
with gx.debug():
    step(np.array([[1, 1, 0, 1]], np.float32))

## NaN backward: a root behind where | is inf at index (0, 0) | backward pass | scale is not finite
scale = gx.parameter("scale", np.ones(4, np.float32))
@gx.step
def step(x: gx.f32["batch", 4]):
    root = gx.sqrt(x * scale)  # here
    loss = gx.where(gx.isnan(root), 0.0, root).sum()
    loss.backward()
    with gx.no_grad():
        scale.copy_(scale - 0.1 * scale.grad)
    return loss
with gx.debug(check="reference"):
    step(np.array([[0, 1, 1, 1]], np.float32))

## NaN backward: a power | is inf at index | backward pass
@gx.step
def step(x: gx.f32["batch", 4]):
    return gx.grad((x ** 0.25).sum(), x)  # here
with gx.debug():
    step(np.zeros((1, 4), np.float32))

## steps: no annotation | parameter 'x' of step | gx.f32["batch", 784]
@gx.step  # here
def step(x):
    return x

## steps: the number of arrays | takes 2 arrays (x, y) | got 1
step = trained(nn.Linear(4, 3))
step(rows)  # here

## steps: arrays by name | 'x' | by place
step = gx.predict_step(nn.Linear(4, 3), x=X)
step(x=rows)  # here

## steps: arrays in another order | input x of train_step is f32[batch,4] | (6,) | fit in the other order
step = trained(nn.Linear(4, 3))
step(classes.astype(np.float32), rows)  # here

## steps: an array on its side | f32[batch,4] | (4, 6) | array.T
step = gx.predict_step(nn.Linear(4, 3), x=X)
step(rows.T)  # here

## steps: one sample without a batch | f32[batch,4] | (4,) | array[None]
step = gx.predict_step(nn.Linear(4, 3), x=X)
step(rows[0])  # here

## steps: batches of two sizes | batch is 5 here and 6 in another input
step = trained(nn.Linear(4, 3))
step(rows, classes[:5])  # here

## steps: backward outside of a step | outside of a traced step | @gx.step
(w * w).sum().backward()  # here

## steps: the optimizer without backward | found no gradient | loss.backward()
net = nn.Linear(4, 3)
opt = optim.SGD(net.parameters(), lr=0.1)
@gx.step
def step(x: gx.f32["batch", 4]):
    loss = net(x).mean()
    opt.step()  # here
    return loss

## steps: an input that is not given | 'labels' | not among the inputs | it is made here
gx.function([x], x.sum() + labels.sum())  # here

## data: arrays of other lengths | 6 samples in array 0 and 5 in array 1
data.TensorDataset(rows, classes[:5])  # here

## data: a setting of a loader | 'bach_size' | did you mean batch_size
data.DataLoader(data.TensorDataset(rows), bach_size=3)  # here

## data: batches of no samples | batch_size is 0 | at least 1
data.DataLoader(data.TensorDataset(rows), batch_size=0)  # here

## data: rows of another shape | f32[batch,4] | (3,)
step = trained(nn.Linear(4, 3))
step.epoch(data.DataLoader(data.TensorDataset(rows[:, :3], classes), 2))  # here

## data: no loader | loader is | DataLoader(TensorDataset(x, y), 64)
step = trained(nn.Linear(4, 3))
step.epoch(rows)  # here

## names: a setting of a group of parameters | 'momentun'|momentun | did you mean momentum
optim.SGD([{"params": nn.Linear(4, 3).parameters(), "momentun": 0.9}], lr=0.1)  # here

## names: a column | 'acc' | loss, accuracy
gx.History([{"loss": 1.0, "accuracy": 0.5}])["acc"]  # here

## names: a value that is explained | 'los' | did you mean loss
trained(nn.Linear(4, 3)).explain("los")  # here

## checkpoints: no such file | nowhere.safetensors | No such file
gx.load("nowhere.safetensors")  # here

## checkpoints: a slip in a name | 'weigth' | did you mean 'weight'
nn.Linear(4, 3).load_state_dict({"weigth": np.zeros((3, 4)), "bias": np.zeros(3)})  # here

## checkpoints: a prefix | missing ['weight', 'bias'] | 'net.'
nn.Linear(4, 3).load_state_dict({"net.weight": np.zeros((3, 4)), "net.bias": np.zeros(3)})  # here

## checkpoints: a weight on its side | [3, 4] in Linear | [4, 3] in the state | array.T
nn.Linear(4, 3).load_state_dict({"weight": np.zeros((4, 3)), "bias": np.zeros(3)})  # here

## checkpoints: a module for its state | Linear( | state_dict()
gx.save(nn.Linear(4, 3), "net.safetensors")  # here

## checkpoints: the state of another step | predict_step | missing ['bias']
step = gx.predict_step(nn.Linear(4, 3), x=X)
step.load_state_dict(gx.predict_step(nn.Linear(4, 3, bias=False), x=X).state_dict())  # here
"""


def read(text: str) -> list[Mistake]:
    found = []
    for block in text.split("\n## ")[1:]:
        head, _, program = block.partition("\n")
        title, *words = head.split(" | ")
        found.append(Mistake(title, tuple(words), program.strip("\n") + "\n"))
    return found


MISTAKES = read(TEXT)
