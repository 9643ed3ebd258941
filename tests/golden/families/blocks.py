"""Building blocks of decoders in numpy float64, written from the papers: norms, rotary positions, attention, feed-forward, experts.

x is [tokens, width]; heads are [tokens, heads, width]; a weight is [outputs, inputs] as numpy sees a GGUF tensor.
"""
import math

import numpy as np


def rms_norm(x, weight, epsilon):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def softcap(x, cap):
    return cap * np.tanh(x / cap) if cap else x


# --- rotary positions ---

class Rope:
    """Turns pairs of the first `dimensions` elements of each head by position x frequency; a magnitude multiplies what is turned.

    interleaved: pairs are (2i, 2i+1); otherwise halves, (i, i + dimensions / 2).
    """

    def __init__(self, frequencies, interleaved, magnitude=1.0):
        self.frequencies, self.interleaved, self.magnitude = np.asarray(frequencies, np.float64), interleaved, magnitude

    def __call__(self, heads):
        half = len(self.frequencies)
        turned, kept = heads[..., :2 * half], heads[..., 2 * half:]
        angles = (np.arange(len(heads))[:, None] * self.frequencies)[:, None, :]
        cos, sin = np.cos(angles) * self.magnitude, np.sin(angles) * self.magnitude
        if self.interleaved:
            a, b = turned[..., 0::2], turned[..., 1::2]
            turned = np.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(turned.shape)
        else:
            a, b = turned[..., :half], turned[..., half:]
            turned = np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
        return np.concatenate([turned, kept], -1)


def frequencies(base, dimensions):
    return base ** (-np.arange(0, dimensions, 2) / dimensions)


def yarn_frequencies(base, dimensions, factor, original, fast=32.0, slow=1.0, truncate=True):
    """YaRN: fast pairs keep their frequency, slow ones are divided by the factor, a linear ramp over pairs in between."""
    def pair_that_turns(times):
        return dimensions * math.log(original / (times * 2 * math.pi)) / (2 * math.log(base))

    low, high = pair_that_turns(fast), pair_that_turns(slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dimensions - 1)
    ramp = np.clip((np.arange(dimensions // 2) - low) / max(high - low, 0.001), 0, 1)
    plain = frequencies(base, dimensions)
    return plain / factor * ramp + plain * (1 - ramp)


def yarn_magnitude(factor, multiplier=1.0):
    return 0.1 * multiplier * math.log(factor) + 1 if factor > 1 else 1.0


def llama3_factors(base, dimensions, factor, low, high, original):
    """What divides each frequency: 1 for short waves, the factor for long ones, a blend in between."""
    factors = np.ones(dimensions // 2)
    for i, wave in enumerate(2 * math.pi / frequencies(base, dimensions)):
        if wave > original / low:
            factors[i] = factor
        elif wave >= original / high:
            smooth = (original / wave - low) / (high - low)
            factors[i] = 1 / ((1 - smooth) / factor + smooth)
    return factors


# --- attention ---

def attention(q, k, v, scale, window=None, cap=None, sinks=None, chunk=None):
    """Causal; a window of n sees the token itself and n - 1 before it, a chunk of n those before it since the last multiple of n; a sink takes
    probability and gives nothing."""
    count, heads = q.shape[:2]
    group = heads // k.shape[1]
    distance = np.arange(count)[:, None] - np.arange(count)[None, :]
    hidden = (distance < 0) | (distance >= (window or count + 1))
    if chunk:
        hidden |= distance > (np.arange(count) % chunk)[:, None]
    out = np.empty((count, heads, v.shape[-1]))
    for head in range(heads):
        scores = softcap(q[:, head] @ k[:, head // group].T * scale, cap)
        scores[hidden] = -np.inf
        if sinks is not None:
            scores = np.concatenate([scores, np.full((count, 1), sinks[head])], 1)
        out[:, head] = softmax(scores)[:, :count] @ v[:, head // group]
    return out.reshape(count, -1)


# --- experts ---

class Router:
    """Chooses experts per token. Remembers how close a choice was: where another implementation may choose otherwise, nothing can be compared."""

    def __init__(self, used, gating="softmax", normalise=False, scale=1.0, groups=1, groups_used=1):
        self.used, self.gating, self.normalise, self.scale = used, gating, normalise, scale
        self.groups, self.groups_used = groups, groups_used
        self.closest = np.inf

    def __call__(self, logits, bias=None):
        """Ids [tokens, used] and weights. The bias takes part in the choice, not in the weights."""
        if self.gating == "softmax_of_chosen":
            scores = logits
        else:
            scores = softmax(logits) if self.gating == "softmax" else sigmoid(logits)
        choice = scores if bias is None else scores + bias
        if self.groups > 1:
            choice = self.of_best_groups(choice)
        order = np.argsort(-choice, -1, kind="stable")
        ids = order[:, :self.used]
        self.watch(np.take_along_axis(choice, order, -1), self.used)
        weights = np.take_along_axis(scores, ids, -1)
        if self.gating == "softmax_of_chosen":
            weights = softmax(weights)
        if self.normalise:
            weights = weights / weights.sum(-1, keepdims=True)
        return ids, weights * self.scale

    def of_best_groups(self, choice):
        grouped = choice.reshape(len(choice), self.groups, -1)
        rank = self.rank(grouped)
        order = np.argsort(-rank, -1, kind="stable")
        self.watch(np.take_along_axis(rank, order, -1), self.groups_used)
        kept = np.zeros(rank.shape, bool)
        np.put_along_axis(kept, order[:, :self.groups_used], True, -1)
        return np.where(kept[..., None], grouped, -np.inf).reshape(choice.shape)

    def rank(self, grouped):
        return np.sort(grouped, -1)[..., -2:].sum(-1)

    def watch(self, ordered, used):
        if used < ordered.shape[-1]:
            self.closest = min(self.closest, (ordered[:, used - 1] - ordered[:, used]).min())


def experts(x, ids, weights, expert):
    """Sum over each token's experts of weight x expert(id, x)."""
    out = np.zeros_like(x)
    for token in range(len(x)):
        for i, weight in zip(ids[token], weights[token]):
            out[token] += weight * expert(i, x[token])
    return out
