"""Wrong answers to assignment 4, each with the exercise it must fail, and other right ones."""

import math

import torch
from torch.nn import functional as F

from geolessons.coursework import right, wrong

IGNORE = 255  # given in the notebook's setup


# 4.1 Push q and v inside a fused matrix


@wrong("4.1", "keys for values")
def pushed(weight, field_q, field_v):
    q, k, v = weight.chunk(3)
    return torch.cat([q + field_q(q), k + field_v(k), v])


@wrong("4.1", "frozen weight changed")
def pushed(weight, field_q, field_v):
    C = weight.shape[1]
    q, v = field_q(weight[:C]), field_v(weight[2 * C :])
    weight[:C] += q
    weight[2 * C :] += v
    return weight


@wrong("4.1", "interleaved rows")
def pushed(weight, field_q, field_v):
    new = weight.clone()
    new[0::3] = weight[0::3] + field_q(weight[0::3])
    new[2::3] = weight[2::3] + field_v(weight[2::3])
    return new


@wrong("4.1", "transposed")
def pushed(weight, field_q, field_v):
    q, k, v = weight.chunk(3)
    return torch.cat([q + field_q(q).T, k, v + field_v(v).T])


@wrong("4.1", "fields of the transposed blocks")
def pushed(weight, field_q, field_v):
    q, k, v = weight.chunk(3)
    return torch.cat([q + field_q(q.T), k, v + field_v(v.T)])


@wrong("4.1", "one field for both")
def pushed(weight, field_q, field_v):
    q, k, v = weight.chunk(3)
    return torch.cat([q + field_q(q), k, v + field_q(v)])


@wrong("4.1", "fields swapped")
def pushed(weight, field_q, field_v):
    q, k, v = weight.chunk(3)
    return torch.cat([q + field_v(q), k, v + field_q(v)])


@wrong("4.1", "the push in place of the block")
def pushed(weight, field_q, field_v):
    q, k, v = weight.chunk(3)
    return torch.cat([field_q(q), k, field_v(v)])


@wrong("4.1", "no gradient reaches the fields")
def pushed(weight, field_q, field_v):
    q, k, v = weight.chunk(3)
    with torch.no_grad():
        return torch.cat([q + field_q(q), k, v + field_v(v)])


@wrong("4.1", "gradient of the first field cut")
def pushed(weight, field_q, field_v):
    q, k, v = weight.chunk(3)
    return torch.cat([q + field_q(q).detach(), k, v + field_v(v)])


@wrong("4.1", "keys through half precision")
def pushed(weight, field_q, field_v):
    q, k, v = weight.chunk(3)
    return torch.cat([q + field_q(q), k.half().to(k.dtype), v + field_v(v)])


@right("4.1", "a clone that is written to")
def pushed(weight, field_q, field_v):
    C = weight.shape[1]
    new = weight.clone()
    new[:C] += field_q(weight[:C])
    new[2 * C :] += field_v(weight[2 * C :])
    return new


@right("4.1", "one addition of a padded push")
def pushed(weight, field_q, field_v):
    C = weight.shape[1]
    push = torch.cat([field_q(weight[:C]), torch.zeros_like(weight[:C]), field_v(weight[-C:])])
    return weight + push


@right("4.1", "three blocks stacked on a new axis")
def pushed(weight, field_q, field_v):
    C = weight.shape[1]
    q, k, v = weight.reshape(3, C, C)
    return torch.stack([q + field_q(q), k, v + field_v(v)]).reshape(3 * C, C)


# 4.2 Mean IoU of the benchmark


@wrong("4.2", "mean over images")
def mean_iou(predictions, labels, classes):
    scores = []
    for said, true in zip(predictions, labels, strict=True):
        known = true != IGNORE
        each = []
        for c in range(classes):
            s, t = (said == c) & known, (true == c) & known
            each.append(int((s & t).sum()) / max(1, int((s | t).sum())))
        scores.append(sum(each) / classes)
    return sum(scores) / len(scores)


@wrong("4.2", "ignored as background")
def mean_iou(predictions, labels, classes):
    both, either = torch.zeros(2, classes)
    for said, true in zip(predictions, labels, strict=True):
        true = true.masked_fill(true == IGNORE, 0)
        for c in range(classes):
            both[c] += ((said == c) & (true == c)).sum()
            either[c] += ((said == c) | (true == c)).sum()
    return float((both / either.clamp(min=1)).mean())


@wrong("4.2", "ignored pixels in the union")
def mean_iou(predictions, labels, classes):
    both, either = torch.zeros(2, classes)
    for said, true in zip(predictions, labels, strict=True):
        for c in range(classes):
            both[c] += ((said == c) & (true == c)).sum()
            either[c] += ((said == c) | (true == c)).sum()
    return float((both / either.clamp(min=1)).mean())


@wrong("4.2", "absent class dropped")
def mean_iou(predictions, labels, classes):
    both, either = torch.zeros(2, classes)
    for said, true in zip(predictions, labels, strict=True):
        known = true != IGNORE
        for c in range(classes):
            both[c] += ((said == c) & (true == c) & known).sum()
            either[c] += (((said == c) | (true == c)) & known).sum()
    return float((both / either).nanmean())


@wrong("4.2", "absent class counts as one")
def mean_iou(predictions, labels, classes):
    both, either = torch.zeros(2, classes)
    for said, true in zip(predictions, labels, strict=True):
        known = true != IGNORE
        for c in range(classes):
            both[c] += ((said == c) & (true == c) & known).sum()
            either[c] += (((said == c) | (true == c)) & known).sum()
    return float((both / either).nan_to_num(1.0).mean())


@wrong("4.2", "only classes that are true somewhere")
def mean_iou(predictions, labels, classes):
    said, true = (torch.cat([m.flatten() for m in maps]) for maps in (predictions, labels))
    known = true != IGNORE
    said, true = said[known], true[known]
    each = [((said == c) & (true == c)).sum() / ((said == c) | (true == c)).sum() for c in true.unique()]
    return float(torch.stack(each).mean())


@wrong("4.2", "pixel accuracy")
def mean_iou(predictions, labels, classes):
    said, true = (torch.cat([m.flatten() for m in maps]) for maps in (predictions, labels))
    known = true != IGNORE
    return float((said == true)[known].double().mean())


@wrong("4.2", "mean accuracy of the classes")
def mean_iou(predictions, labels, classes):
    said, true = (torch.cat([m.flatten() for m in maps]) for maps in (predictions, labels))
    counts = [int((true == c).sum()) for c in range(classes)]
    hits = [int(((said == c) & (true == c)).sum()) for c in range(classes)]
    return sum(h / max(1, n) for h, n in zip(hits, counts, strict=True)) / classes


@wrong("4.2", "twice the overlap over the sum")
def mean_iou(predictions, labels, classes):
    said, true = (torch.cat([m.flatten() for m in maps]) for maps in (predictions, labels))
    known = true != IGNORE
    said, true = said[known], true[known]
    each = [
        2 * int(((said == c) & (true == c)).sum()) / max(1, int((said == c).sum() + (true == c).sum()))
        for c in range(classes)
    ]
    return sum(each) / classes


@wrong("4.2", "one ratio of all classes together")
def mean_iou(predictions, labels, classes):
    said, true = (torch.cat([m.flatten() for m in maps]) for maps in (predictions, labels))
    known = true != IGNORE
    said, true = said[known], true[known]
    both = int((said == true).sum())
    return both / (2 * len(true) - both)


@wrong("4.2", "writes on the predictions")
def mean_iou(predictions, labels, classes):
    both, either = torch.zeros(2, classes)
    for said, true in zip(predictions, labels, strict=True):
        said[true == IGNORE] = IGNORE
        for c in range(classes):
            both[c] += ((said == c) & (true == c)).sum()
            either[c] += ((said == c) | (true == c)).sum()
    return float((both / either.clamp(min=1)).mean())


@right("4.2", "from a table of counts")
def mean_iou(predictions, labels, classes):
    table = torch.zeros(classes * classes, dtype=torch.long)
    for said, true in zip(predictions, labels, strict=True):
        known = true != IGNORE
        table += torch.bincount(true[known] * classes + said[known], minlength=classes**2)
    table = table.reshape(classes, classes)
    both = table.diagonal().double()
    return (both / (table.sum(0) + table.sum(1) - both)).nan_to_num(0.0).mean().item()


@right("4.2", "all pixels in one row, one-hot, in float32")
def mean_iou(predictions, labels, classes):
    said, true = (torch.cat([m.flatten() for m in maps]) for maps in (predictions, labels))
    known = true != IGNORE
    s, t = (F.one_hot(m[known], classes).float() for m in (said, true))
    both, either = (s * t).sum(0), torch.maximum(s, t).sum(0)
    return torch.where(either > 0, both / either.clamp(min=1), 0.0).mean()


# 4.3 Mean angle and RMSE, in degrees


@wrong("4.3", "prediction not normalised")
def angle_errors(prediction, label):
    known = (label != 0).any(0)
    p, n = prediction[:, known], label[:, known]
    angle = (p * n).sum(0).clamp(-1, 1).arccos().rad2deg()
    return {"mean": float(angle.mean()), "rms": float(angle.square().mean().sqrt())}


@wrong("4.3", "names swapped")
def angle_errors(prediction, label):
    known = (label != 0).any(0)
    p, n = F.normalize(prediction[:, known], dim=0), label[:, known]
    angle = (p * n).sum(0).clamp(-1, 1).arccos().rad2deg()
    return {"rms": float(angle.mean()), "mean": float(angle.square().mean().sqrt())}


@wrong("4.3", "angle of the mean cosine")
def angle_errors(prediction, label):
    known = (label != 0).any(0)
    p, n = F.normalize(prediction[:, known], dim=0), label[:, known]
    cosine = (p * n).sum(0).clamp(-1, 1)
    rms = cosine.arccos().rad2deg().square().mean().sqrt()
    return {"mean": float(cosine.mean().arccos().rad2deg()), "rms": float(rms)}


@wrong("4.3", "radians")
def angle_errors(prediction, label):
    known = (label != 0).any(0)
    p, n = F.normalize(prediction[:, known], dim=0), label[:, known]
    angle = (p * n).sum(0).clamp(-1, 1).arccos()
    return {"mean": float(angle.mean()), "rms": float(angle.square().mean().sqrt())}


@wrong("4.3", "the mean under both names")
def angle_errors(prediction, label):
    known = (label != 0).any(0)
    p, n = F.normalize(prediction[:, known], dim=0), label[:, known]
    angle = float((p * n).sum(0).clamp(-1, 1).arccos().rad2deg().mean())
    return {"mean": angle, "rms": angle}


@wrong("4.3", "deviation for root mean square")
def angle_errors(prediction, label):
    known = (label != 0).any(0)
    p, n = F.normalize(prediction[:, known], dim=0), label[:, known]
    angle = (p * n).sum(0).clamp(-1, 1).arccos().rad2deg()
    return {"mean": float(angle.mean()), "rms": float(angle.std())}


@wrong("4.3", "unknown pixels counted as 90 degrees")
def angle_errors(prediction, label):
    p = F.normalize(prediction, dim=0)
    angle = (p * label).sum(0).clamp(-1, 1).arccos().rad2deg()
    return {"mean": float(angle.mean()), "rms": float(angle.square().mean().sqrt())}


@wrong("4.3", "sign of the cosine lost")
def angle_errors(prediction, label):
    known = (label != 0).any(0)
    p, n = F.normalize(prediction[:, known], dim=0), label[:, known]
    angle = torch.linalg.cross(p, n, dim=0).norm(dim=0).clamp(max=1).arcsin().rad2deg()
    return {"mean": float(angle.mean()), "rms": float(angle.square().mean().sqrt())}


@wrong("4.3", "normalises the predictions in place")
def angle_errors(prediction, label):
    known = (label != 0).any(0)
    prediction /= prediction.norm(dim=0)
    angle = (prediction * label).sum(0)[known].clamp(-1, 1).arccos().rad2deg()
    return {"mean": float(angle.mean()), "rms": float(angle.square().mean().sqrt())}


@wrong("4.3", "known by the sum of a normal's parts")
def angle_errors(prediction, label):
    known = label.sum(0) != 0
    p, n = F.normalize(prediction[:, known], dim=0), label[:, known]
    angle = (p * n).sum(0).clamp(-1, 1).arccos().rad2deg()
    return {"mean": float(angle.mean()), "rms": float(angle.square().mean().sqrt())}


@right("4.3", "arccos of the clamped cosine")
def angle_errors(prediction, label):
    known = label.square().sum(0) > 0
    cosine = F.cosine_similarity(prediction, label, dim=0)[known].clamp(-1, 1)
    angle = cosine.arccos() * (180 / math.pi)
    return {"mean": angle.mean(), "rms": angle.pow(2).mean() ** 0.5}


@right("4.3", "half the angle from the difference and the sum")
def angle_errors(prediction, label):
    known = label.abs().sum(0) > 0
    p = (prediction / prediction.norm(dim=0, keepdim=True))[:, known].double()
    n = label[:, known].double()
    angle = (2 * torch.atan2((p - n).norm(dim=0), (p + n).norm(dim=0))).rad2deg()
    return {"mean": angle.mean().item(), "rms": (angle.norm() / math.sqrt(len(angle))).item()}


# 4.4 Turn and mirror a normal map


@wrong("4.4", "picture only")
def moved(normals, turns=0, mirrored=False):
    if mirrored:
        normals = normals.flip(-1)
    return torch.rot90(normals, turns, (-2, -1))


@wrong("4.4", "vectors only")
def moved(normals, turns=0, mirrored=False):
    x, y, z = normals
    if mirrored:
        x = -x
    for _ in range(turns):
        x, y = -y, x
    return torch.stack([x, y, z])


@wrong("4.4", "wrong sense of the vectors")
def moved(normals, turns=0, mirrored=False):
    x, y, z = normals.flip(-1) if mirrored else normals
    if mirrored:
        x = -x
    for _ in range(turns):
        x, y, z = (torch.rot90(part, 1) for part in (y, -x, z))
    return torch.stack([x, y, z])


@wrong("4.4", "wrong sense of the pixels")
def moved(normals, turns=0, mirrored=False):
    x, y, z = normals.flip(-1) if mirrored else normals
    if mirrored:
        x = -x
    for _ in range(turns):
        x, y, z = (torch.rot90(part, -1) for part in (-y, x, z))
    return torch.stack([x, y, z])


@wrong("4.4", "to the right, both")
def moved(normals, turns=0, mirrored=False):
    x, y, z = normals.flip(-1) if mirrored else normals
    if mirrored:
        x = -x
    for _ in range(turns):
        x, y, z = (torch.rot90(part, -1) for part in (y, -x, z))
    return torch.stack([x, y, z])


@wrong("4.4", "flip negates y")
def moved(normals, turns=0, mirrored=False):
    x, y, z = normals.flip(-1) if mirrored else normals
    if mirrored:
        y = -y
    for _ in range(turns):
        x, y, z = (torch.rot90(part, 1) for part in (-y, x, z))
    return torch.stack([x, y, z])


@wrong("4.4", "upside down for left and right")
def moved(normals, turns=0, mirrored=False):
    x, y, z = normals.flip(-2) if mirrored else normals
    if mirrored:
        y = -y
    for _ in range(turns):
        x, y, z = (torch.rot90(part, 1) for part in (-y, x, z))
    return torch.stack([x, y, z])


@wrong("4.4", "mirrored after the turn")
def moved(normals, turns=0, mirrored=False):
    x, y, z = normals
    for _ in range(turns):
        x, y, z = (torch.rot90(part, 1) for part in (-y, x, z))
    turned = torch.stack([x, y, z])
    return turned.flip(-1) * torch.tensor([-1.0, 1, 1]).to(turned)[:, None, None] if mirrored else turned


@wrong("4.4", "vectors turned once however many turns")
def moved(normals, turns=0, mirrored=False):
    x, y, z = torch.rot90(normals.flip(-1) if mirrored else normals, turns, (-2, -1))
    if mirrored:
        x = -x
    return torch.stack([-y, x, z]) if turns else torch.stack([x, y, z])


@wrong("4.4", "writes on the given map")
def moved(normals, turns=0, mirrored=False):
    if mirrored:
        normals[0] *= -1
        normals = normals.flip(-1)
    x, y, z = normals
    for _ in range(turns):
        x, y, z = (torch.rot90(part, 1) for part in (-y, x, z))
    return torch.stack([x, y, z])


@wrong("4.4", "y taken as down")
def moved(normals, turns=0, mirrored=False):
    x, y, z = normals.flip(-1) if mirrored else normals
    if mirrored:
        x = -x
    for _ in range(turns % 2):
        x, y, z = (torch.rot90(part, 1) for part in (y, -x, z))
    if turns >= 2:
        x, y, z = (torch.rot90(part, 2) for part in (-x, -y, z))
    return torch.stack([x, y, z])


@right("4.4", "by a matrix of sines and cosines")
def moved(normals, turns=0, mirrored=False):
    a = turns * math.pi / 2
    R = torch.tensor([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    M = torch.diag(torch.tensor([-1.0 if mirrored else 1.0, 1.0, 1.0]))
    picture = torch.rot90(normals.flip(2) if mirrored else normals, turns, (1, 2))
    return torch.einsum("ij,jhw->ihw", (R @ M).to(normals.dtype), picture)


@right("4.4", "by transposing, turn after turn")
def moved(normals, turns=0, mirrored=False):
    new = normals.clone()
    if mirrored:
        new = new.flip(2)
        new[0] = -new[0]
    for _ in range(turns):
        new = new.transpose(1, 2).flip(1)
        new = torch.stack([-new[1], new[0], new[2]])
    return new


# 4.5 One number from four


@wrong("4.5", "sign of normals")
def delta_m(values, single, lower_is_better):
    changes = [(values[task] - single[task]) / single[task] for task in values]
    return 100 * sum(changes) / len(changes)


@wrong("4.5", "plain differences")
def delta_m(values, single, lower_is_better):
    signs = {task: -1 if task in lower_is_better else 1 for task in values}
    return sum(signs[task] * (values[task] - single[task]) for task in values) / len(values)


@wrong("4.5", "over the new value")
def delta_m(values, single, lower_is_better):
    signs = {task: -1 if task in lower_is_better else 1 for task in values}
    changes = [signs[task] * (values[task] - single[task]) / values[task] for task in values]
    return 100 * sum(changes) / len(changes)


@wrong("4.5", "the sum, not the mean")
def delta_m(values, single, lower_is_better):
    signs = {task: -1 if task in lower_is_better else 1 for task in values}
    return 100 * sum(signs[task] * (values[task] - single[task]) / single[task] for task in values)


@wrong("4.5", "a share, not per cent")
def delta_m(values, single, lower_is_better):
    signs = {task: -1 if task in lower_is_better else 1 for task in values}
    changes = [signs[task] * (values[task] - single[task]) / single[task] for task in values]
    return sum(changes) / len(changes)


@wrong("4.5", "change of the means")
def delta_m(values, single, lower_is_better):
    signs = {task: -1 if task in lower_is_better else 1 for task in values}
    change = sum(signs[task] * (values[task] - single[task]) for task in values)
    return 100 * change / sum(single.values())


@wrong("4.5", "all signs turned")
def delta_m(values, single, lower_is_better):
    signs = {task: 1 if task in lower_is_better else -1 for task in values}
    changes = [signs[task] * (values[task] - single[task]) / single[task] for task in values]
    return 100 * sum(changes) / len(changes)


@wrong("4.5", "tasks paired by their order")
def delta_m(values, single, lower_is_better):
    pairs = zip(values.items(), single.values(), strict=True)
    changes = [(-1 if task in lower_is_better else 1) * (v - s) / s for (task, v), s in pairs]
    return 100 * sum(changes) / len(changes)


@right("4.5", "from ratios, in tensors")
def delta_m(values, single, lower_is_better):
    ratio = torch.tensor([values[task] / single[task] for task in single], dtype=torch.float64)
    sign = torch.tensor([-1.0 if task in set(lower_is_better) else 1.0 for task in single])
    return 100 * (sign * (ratio - 1)).mean().item()


# 4.6 An audit of trainable numbers


@wrong("4.6", "q, k and v")
def audit(rank, stages, decoders, kept):
    fields = sum(blocks * 3 * rank * (C + C) for C, blocks in stages)
    heads = sum(math.prod(shape) for shapes in decoders.values() for shape in shapes)
    return fields + heads + sum(kept.values())


@wrong("4.6", "decoders forgotten")
def audit(rank, stages, decoders, kept):
    return sum(blocks * 2 * rank * (C + C) for C, blocks in stages) + sum(kept.values())


@wrong("4.6", "one factor")
def audit(rank, stages, decoders, kept):
    fields = sum(blocks * 2 * rank * C for C, blocks in stages)
    heads = sum(math.prod(shape) for shapes in decoders.values() for shape in shapes)
    return fields + heads + sum(kept.values())


@wrong("4.6", "the first stage's channels in every stage")
def audit(rank, stages, decoders, kept):
    fields = sum(blocks * 2 * rank * 2 * stages[0][0] for _, blocks in stages)
    heads = sum(math.prod(shape) for shapes in decoders.values() for shape in shapes)
    return fields + heads + sum(kept.values())


@wrong("4.6", "kept groups forgotten")
def audit(rank, stages, decoders, kept):
    fields = sum(blocks * 2 * rank * (C + C) for C, blocks in stages)
    return fields + sum(math.prod(shape) for shapes in decoders.values() for shape in shapes)


@wrong("4.6", "vectors of the decoders forgotten")
def audit(rank, stages, decoders, kept):
    fields = sum(blocks * 2 * rank * (C + C) for C, blocks in stages)
    heads = sum(math.prod(s) for shapes in decoders.values() for s in shapes if len(s) > 1)
    return fields + heads + sum(kept.values())


@wrong("4.6", "one decoder for all tasks")
def audit(rank, stages, decoders, kept):
    fields = sum(blocks * 2 * rank * (C + C) for C, blocks in stages)
    heads = sum(math.prod(shape) for shape in next(iter(decoders.values()), []))
    return fields + heads + sum(kept.values())


@wrong("4.6", "one block a stage")
def audit(rank, stages, decoders, kept):
    fields = sum(2 * rank * (C + C) for C, _ in stages)
    heads = sum(math.prod(shape) for shapes in decoders.values() for shape in shapes)
    return fields + heads + sum(kept.values())


@wrong("4.6", "whole matrices, not factors")
def audit(rank, stages, decoders, kept):
    fields = sum(blocks * 2 * C * C for C, blocks in stages)
    heads = sum(math.prod(shape) for shapes in decoders.values() for shape in shapes)
    return fields + heads + sum(kept.values())


@right("4.6", "as one field on the fused matrix, which has as many")
def audit(rank, stages, decoders, kept):
    total = sum(kept.values())
    for C, blocks in stages:
        total += blocks * rank * (3 * C + C)
    for shapes in decoders.values():
        total += sum(torch.Size(shape).numel() for shape in shapes)
    return total


@right("4.6", "by making the tensors and counting them")
def audit(rank, stages, decoders, kept):
    shapes = [s for C, blocks in stages for s in [(C, rank), (rank, C)] * (2 * blocks)]
    shapes += [s for each in decoders.values() for s in each]
    return sum(torch.empty(s, device="meta").numel() for s in shapes) + sum(kept.values())


# 4.7 A balanced saliency loss


@wrong("4.7", "weights swapped")
def saliency_loss(logits, labels):
    y = labels.to(logits.dtype)
    ones = y.mean()
    return (ones * y * F.softplus(-logits) + (1 - ones) * (1 - y) * F.softplus(logits)).mean()


@wrong("4.7", "per image")
def saliency_loss(logits, labels):
    y = labels.to(logits.dtype)
    ones = y.mean((1, 2), keepdim=True)
    return ((1 - ones) * y * F.softplus(-logits) + ones * (1 - y) * F.softplus(logits)).mean()


@wrong("4.7", "unbalanced")
def saliency_loss(logits, labels):
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


@wrong("4.7", "log of the sigmoid")
def saliency_loss(logits, labels):
    y, p = labels.to(logits.dtype), logits.sigmoid()
    ones = y.mean()
    return -((1 - ones) * y * p.log() + ones * (1 - y) * (1 - p).log()).mean()


@wrong("4.7", "log of a clamped sigmoid")
def saliency_loss(logits, labels):
    y, p = labels.to(logits.dtype), logits.sigmoid().clamp(1e-7, 1 - 1e-7)
    ones = y.mean()
    return -((1 - ones) * y * p.log() + ones * (1 - y) * (1 - p).log()).mean()


@wrong("4.7", "torch's cross entropy of the sigmoid, cut at 100")
def saliency_loss(logits, labels):
    y = labels.to(logits.dtype)
    ones = y.mean()
    weight = torch.where(labels == 1, 1 - ones, ones)
    return F.binary_cross_entropy(logits.sigmoid(), y, weight)


@wrong("4.7", "logits clamped")
def saliency_loss(logits, labels):
    y, z = labels.to(logits.dtype), logits.clamp(-50, 50)
    ones = y.mean()
    return ((1 - ones) * y * F.softplus(-z) + ones * (1 - y) * F.softplus(z)).mean()


@wrong("4.7", "mean of the two kinds' means")
def saliency_loss(logits, labels):
    y = labels.to(logits.dtype)
    ones = (y * F.softplus(-logits)).sum() / y.sum().clamp(min=1)
    zeros = ((1 - y) * F.softplus(logits)).sum() / (1 - y).sum().clamp(min=1)
    return (ones + zeros) / 2


@wrong("4.7", "divided by the sum of the weights")
def saliency_loss(logits, labels):
    y = labels.to(logits.dtype)
    weight = torch.where(labels == 1, 1 - y.mean(), y.mean())
    loss = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    return (weight * loss).sum() / weight.sum().clamp(min=1e-9)


@wrong("4.7", "sum, not mean")
def saliency_loss(logits, labels):
    y = labels.to(logits.dtype)
    ones = y.mean()
    return ((1 - ones) * y * F.softplus(-logits) + ones * (1 - y) * F.softplus(logits)).sum()


@right("4.7", "torch's own, with weights")
def saliency_loss(logits, labels):
    y = labels.to(logits.dtype)
    ones = y.sum() / y.numel()
    weight = torch.where(labels == 1, 1 - ones, ones)
    return F.binary_cross_entropy_with_logits(logits, y, weight=weight)


@right("4.7", "by the logarithm of the sigmoid, kind by kind")
def saliency_loss(logits, labels):
    z, N = logits.flatten(), logits.numel()
    one = labels.flatten() == 1
    N1 = int(one.sum())
    rise, fall = -F.logsigmoid(z[one]).sum(), -F.logsigmoid(-z[~one]).sum()
    return (rise * (N - N1) / N + fall * N1 / N) / N


# 4.8 The lucky place


@wrong("4.8", "norm over tokens")
def uniform_effect(weight, x, gain=None):
    if gain is not None:
        x = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt() * gain
    field = torch.full_like(weight, 1 / weight.shape[1])
    return float((x @ field.T).norm() / (x @ weight.T).norm())


@wrong("4.8", "norm over all numbers at once")
def uniform_effect(weight, x, gain=None):
    if gain is not None:
        x = (x - x.mean()) / x.std() * gain
    field = torch.full_like(weight, 1 / weight.shape[1])
    return float((x @ field.T).norm() / (x @ weight.T).norm())


@wrong("4.8", "scaled, not centred")
def uniform_effect(weight, x, gain=None):
    if gain is not None:
        x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain
    field = torch.full_like(weight, 1 / weight.shape[1])
    return float((x @ field.T).norm() / (x @ weight.T).norm())


@wrong("4.8", "centred, not scaled")
def uniform_effect(weight, x, gain=None):
    if gain is not None:
        x = (x - x.mean(-1, keepdim=True)) * gain
    field = torch.full_like(weight, 1 / weight.shape[1])
    return float((x @ field.T).norm() / (x @ weight.T).norm())


@wrong("4.8", "absolute size")
def uniform_effect(weight, x, gain=None):
    if gain is not None:
        x = F.layer_norm(x, x.shape[-1:], gain)
    field = torch.full_like(weight, 1 / weight.shape[1])
    return float((x @ field.T).norm())


@wrong("4.8", "whole output")
def uniform_effect(weight, x, gain=None):
    if gain is not None:
        x = F.layer_norm(x, x.shape[-1:], gain)
    field = torch.full_like(weight, 1 / weight.shape[1])
    return float((x @ (weight + field).T).norm() / (x @ weight.T).norm())


@wrong("4.8", "over the changed output")
def uniform_effect(weight, x, gain=None):
    if gain is not None:
        x = F.layer_norm(x, x.shape[-1:], gain)
    field = torch.full_like(weight, 1 / weight.shape[1])
    return float((x @ field.T).norm() / (x @ (weight + field).T).norm())


@wrong("4.8", "share of the weights, not of the outputs")
def uniform_effect(weight, x, gain=None):
    if gain is not None:
        x = F.layer_norm(x, x.shape[-1:], gain)
    return float(torch.full_like(weight, 1 / weight.shape[1]).norm() / weight.norm())


@wrong("4.8", "gain forgotten")
def uniform_effect(weight, x, gain=None):
    if gain is not None:
        x = F.layer_norm(x, x.shape[-1:])
    field = torch.full_like(weight, 1 / weight.shape[1])
    return float((x @ field.T).norm() / (x @ weight.T).norm())


@wrong("4.8", "gain before the norm")
def uniform_effect(weight, x, gain=None):
    if gain is not None:
        x = F.layer_norm(x * gain, x.shape[-1:])
    field = torch.full_like(weight, 1 / weight.shape[1])
    return float((x @ field.T).norm() / (x @ weight.T).norm())


@wrong("4.8", "no effect behind any norm")
def uniform_effect(weight, x, gain=None):
    if gain is not None:
        return 0.0
    field = torch.full_like(weight, 1 / weight.shape[1])
    return float((x @ field.T).norm() / (x @ weight.T).norm())


@wrong("4.8", "one over the number of outputs")
def uniform_effect(weight, x, gain=None):
    if gain is not None:
        x = F.layer_norm(x, x.shape[-1:], gain)
    field = torch.full_like(weight, 1 / weight.shape[0])
    return float((x @ field.T).norm() / (x @ weight.T).norm())


@wrong("4.8", "mean of the tokens' shares")
def uniform_effect(weight, x, gain=None):
    if gain is not None:
        x = F.layer_norm(x, x.shape[-1:], gain)
    field = torch.full_like(weight, 1 / weight.shape[1])
    return float(((x @ field.T).norm(dim=1) / (x @ weight.T).norm(dim=1)).mean())


@wrong("4.8", "centres the tokens in place")
def uniform_effect(weight, x, gain=None):
    if gain is not None:
        x -= x.mean(-1, keepdim=True)
        x /= (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        x *= gain
    field = torch.full_like(weight, 1 / weight.shape[1])
    return float((x @ field.T).norm() / (x @ weight.T).norm())


@right("4.8", "by the means of the tokens, with the other deviation")
def uniform_effect(weight, x, gain=None):
    if gain is not None:
        x = gain * (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    change = math.sqrt(len(weight)) * x.mean(1).norm()
    return change / (x @ weight.T).norm()


@right("4.8", "the difference of two layers, in float64")
def uniform_effect(weight, x, gain=None):
    weight, x = weight.double(), x.double()
    if gain is not None:
        x = F.layer_norm(x, [weight.shape[1]], gain.double(), eps=1e-6)
    without, with_it = F.linear(x, weight), F.linear(x, weight + 1 / weight.shape[1])
    return ((with_it - without).square().sum() / without.square().sum()).sqrt().item()
