"""torch, as bench_training.py's peer.

    train_torch.py FOLDER BATCH THREADS KIND

KIND: torchlip     deel-torchlip's layers as they are: one power iteration, a gradient through the last Bjorck iterations only
      autograd     deel-lip's semantics in torch, both loops with their early stop, differentiated by torch
      by_hand      the same with the gradient of the loop written out, which saves autograd's bookkeeping
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from training import Folder, serve

folder, batch, threads, kind = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(threads)
net = Folder(folder, batch)
EPS, CAP_POWER, CAP_BJORCK = 1e-3, 10, 15


def gram_times(w):
    return w @ (w.T @ w) if w.shape[0] > w.shape[1] else (w @ w.T) @ w


def power(w, u):
    """deel-lip's power iteration: until u moves less than eps."""
    with torch.no_grad():
        u = F.normalize(u, dim=0)
        for _ in range(CAP_POWER):
            old, u = u, F.normalize(w.T @ (w @ u), dim=0)
            if torch.linalg.vector_norm(u - old) < EPS:
                break
    return u


class ByHand(torch.autograd.Function):
    """Bjorck's loop with its gradient: g <- 1.5 g - 0.5 (g S + A (H + H')), S = A'A, H = A'g; its mirror image for wide ones."""

    @staticmethod
    def forward(ctx, w):
        kept = []
        for _ in range(CAP_BJORCK):
            tall = w.shape[0] > w.shape[1]
            gram = w.T @ w if tall else w @ w.T
            kept.append((w, gram))
            old, w = w, torch.add(w, w @ gram if tall else gram @ w, alpha=-1 / 3).mul_(1.5)
            if torch.linalg.vector_norm(w - old) < EPS:
                break
        ctx.kept = kept
        return w

    @staticmethod
    def backward(ctx, g):
        for a, gram in reversed(ctx.kept):
            if a.shape[0] > a.shape[1]:
                h = a.T @ g
                g = 1.5 * g - 0.5 * (g @ gram + a @ (h + h.T))
            else:
                h = g @ a.T
                g = 1.5 * g - 0.5 * (gram @ g + (h + h.T) @ a)
        return g


def bjorck(w):
    for _ in range(CAP_BJORCK):
        old, w = w, 1.5 * w - 0.5 * gram_times(w)
        if torch.linalg.vector_norm((w - old).detach()) < EPS:
            break
    return w


class Spectral(nn.Module):
    """deel-lip's SpectralDense."""

    def __init__(self, name):
        super().__init__()
        self.kernel = nn.Parameter(torch.tensor(net.weights[name + "/kernel"]))
        self.bias = nn.Parameter(torch.tensor(net.weights[name + "/bias"]))
        self.register_buffer("u", torch.tensor(net.weights[name + "/u"]).flatten())

    def forward(self, x):
        self.u = power(self.kernel, self.u)
        w = self.kernel / (torch.linalg.vector_norm(self.kernel @ self.u) + EPS)
        return torch.addmm(self.bias, x, (ByHand.apply if kind == "by_hand" else bjorck)(w))


class GroupSort2(nn.Module):
    def forward(self, x):
        a, b = x.view(x.shape[0], -1, 2).unbind(-1)
        return torch.stack((torch.minimum(a, b), torch.maximum(a, b)), -1).view(x.shape)


def own():
    return nn.Sequential(*(Spectral(entry["config"]["name"]) if entry["class_name"] == "SpectralDense" else GroupSort2()
                           for entry in net.layers[1:]))


def torchlip():
    from deel import torchlip as tl

    made, channels, size, turned = [], net.input[-1], net.input[0], None
    for entry in net.layers[1:]:
        config = entry["config"]
        if entry["class_name"] == "SpectralConv2D":
            layer = tl.SpectralConv2d(channels, config["filters"], 3, padding=1)
            channels = config["filters"]
        elif entry["class_name"] == "ScaledL2NormPooling2D":
            layer = tl.ScaledL2NormPool2d(2)
            size //= 2
        elif entry["class_name"] == "Flatten":
            layer = nn.Flatten()
            turned = (size, size, channels)
            channels *= size * size
        elif entry["class_name"] == "GroupSort2":
            layer = tl.GroupSort2()
        else:
            layer = {"SpectralDense": tl.SpectralLinear, "FrobeniusDense": tl.FrobeniusLinear}[entry["class_name"]](
                channels, config["units"])
            channels = config["units"]
        if config["name"] + "/kernel" in net.weights:
            start(layer, torch.tensor(net.weights[config["name"] + "/kernel"]), turned)
            turned = turned if entry["class_name"] == "SpectralConv2D" else None
        made.append(layer)
    return nn.Sequential(*made)


def start(layer, kernel, turned):
    """The common first weights, in torch's order. turned: rows are places of an image, which torch flattens channels first."""
    if kernel.dim() == 4:
        kernel = kernel.permute(3, 2, 0, 1)
    elif turned:
        kernel = kernel.view(*turned, -1).permute(3, 2, 0, 1).flatten(1)
    else:
        kernel = kernel.T
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(kernel)


model = (torchlip if kind == "torchlip" else own)().train()
images = len(net.input) == 3
last = images and kind == "torchlip"
if last:
    model = model.to(memory_format=torch.channels_last)
optimizer = torch.optim.Adam(model.parameters(), 1e-3, eps=1e-7, fused=True)


def step(x, y):
    optimizer.zero_grad(set_to_none=True)
    loss = F.cross_entropy(10.0 * model(x), y) / 10.0
    loss.backward()
    optimizer.step()
    return loss.detach()


def placed(x):
    x = torch.tensor(x)
    x = x.permute(0, 3, 1, 2) if images else x  # the permuted view of NHWC is channels_last
    return x if last else x.contiguous()


serve(f"torch {torch.__version__}, {kind}, {torch.get_num_threads()} threads",
      [(placed(x), torch.tensor(y)) for x, y in net.batches], step)
